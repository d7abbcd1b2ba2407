"""California's houses: 20 640 districts of the census of 1990, each with the median price of its houses."""

import csv
import io
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.data.cache import STAND_IN, File, load

CAP = 500_001.0  # dollars: what the published file says of every dearer district

NUMBERS = (
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
)

PLACES = ("<1H OCEAN", "INLAND", "NEAR OCEAN", "NEAR BAY", "ISLAND")

_COLUMNS = (*NUMBERS, "median_house_value", "ocean_proximity")
_DISTRICTS = 4000  # of the stand-in


class HousingSet(NamedTuple):
    """Districts and the median prices of their houses.

    Args:
        numbers: float32, shape ``(N, 8)``: the columns named in ``NUMBERS``; NaN where the bedrooms are missing.
            Income is in tens of thousands of dollars, age in years (52 stands for more, too).
        places: int64, shape ``(N,)``: where the district lies, a place in ``PLACES``.
        prices: float32, shape ``(N,)``, in dollars; ``CAP`` stands for every price above 500 000.
        source: Where they come from, one short sentence.
    """

    numbers: Tensor
    places: Tensor
    prices: Tensor
    source: str

    @property
    def is_real(self) -> bool:
        """Whether this is the data set asked for, not its stand-in."""
        return not self.source.startswith(STAND_IN)


def load_housing(*, fallback: bool = True) -> HousingSet:
    """Load the California housing data, in the order of the file, which is not random: neighbours stand together.

    Args:
        fallback: Where the file cannot be had, whether to return a stand-in (4 000 generated districts) and say so on
            stderr, or to raise.

    Returns:
        Numbers, places, prices and their source.

    Raises:
        ValueError: The file is not what it should be.
        DataError: The file cannot be had and ``fallback`` is False.

    Source: R. K. Pace, R. Barry, Statistics & Probability Letters 33 (1997),
    https://doi.org/10.1016/S0167-7152(96)00140-X (public domain), in A. Géron's version, which adds the places and
    removes 207 numbers of bedrooms.
    """
    return load("California housing", (HOUSING,), _parse, _generated, fallback=fallback)


def _parse(content: bytes) -> HousingSet:
    numbers, places, prices = parse_table(content.decode())
    return HousingSet(numbers, places, prices, f"California housing (Pace and Barry), {_spaced(len(prices))} districts")


def parse_table(text: str) -> tuple[Tensor, Tensor, Tensor]:
    """Read the table of districts.

    Args:
        text: A CSV file with a header; bedrooms may be empty, nothing else.

    Returns:
        Numbers, places and prices, as in ``HousingSet``.

    Raises:
        ValueError: The columns are not the published ones, or a row lacks a value or has one that cannot be.
    """
    header, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    if tuple(header) != _COLUMNS:
        raise ValueError(f"the table should have the columns {', '.join(_COLUMNS)}; it has {', '.join(header)}")
    bedrooms = NUMBERS.index("total_bedrooms")
    values = np.empty((len(rows), len(_COLUMNS) - 1), np.float32)
    for number, row in enumerate(rows):
        try:
            *texts, place = row
            values[number] = ["nan" if not text and i == bedrooms else text for i, text in enumerate(texts)]
            row[-1] = PLACES.index(place)
        except ValueError as error:
            raise ValueError(f"line {number + 2} of the table is no district: {','.join(map(str, row))}") from error
    table = torch.from_numpy(values)
    return table[:, :-1].clone(), torch.tensor([row[-1] for row in rows], dtype=torch.int64), table[:, -1].clone()


def _generated() -> HousingSet:
    """Districts along a coast whose prices depend on income, place, age and crowding, with skewed noise and a cap."""
    random = np.random.RandomState(0)  # its numbers are frozen; those of default_rng may change with numpy
    noise = random.standard_normal((8, _DISTRICTS))
    along, inland = random.uniform(size=_DISTRICTS), np.minimum(random.gamma(1.0, 0.8, _DISTRICTS), 2.8)
    latitude = 32.6 + 8.4 * along  # `inland` is in degrees of longitude from the coast
    longitude = -117.2 - 7.0 * along + inland
    age = np.clip(np.rint(28 + 13 * noise[0]), 1, 52)
    households = np.exp(6.0 + 0.7 * noise[1])
    income = np.clip(np.exp(1.28 + 0.45 * noise[2]), 0.5, 15.0)
    rooms = households * np.exp(1.65 + 0.15 * (np.log(income) - 1.28) + 0.2 * noise[3])
    bedrooms = households * np.exp(0.05 + 0.1 * noise[4])
    people = households * np.exp(1.05 + 0.25 * noise[5])
    cities = sum(np.exp(-((latitude - at) ** 2 + inland**2) / 0.5) for at in (34.0, 37.8))
    value = 12.2 + 0.75 * (np.log(income) - 1.28) - 0.35 * np.minimum(inland, 2) + 0.5 * cities  # ln dollars
    value += 0.15 * noise[0] - 0.3 * (np.log(people / households) - 1.05) + 0.22 * noise[6] + 0.08 * noise[7] ** 2
    prices = np.maximum(np.rint(np.exp(value) / 100) * 100, 14_999)
    prices = np.where(prices > CAP - 1, CAP, prices)
    places = np.select([inland > 1, along > 0.75, latitude > 37.3], [1, 2, 3], 0)
    bedrooms = np.where(random.uniform(size=_DISTRICTS) < 0.01, np.nan, np.ceil(bedrooms))
    numbers = [longitude, latitude, age, np.ceil(rooms), bedrooms, np.ceil(people), np.ceil(households), income]
    return HousingSet(
        torch.from_numpy(np.stack(numbers, 1).astype(np.float32)),
        torch.from_numpy(places.astype(np.int64)),
        torch.from_numpy(prices.astype(np.float32)),
        f"{STAND_IN} California housing: generated, {_spaced(_DISTRICTS)} districts",
    )


def _spaced(number: int) -> str:
    """20640 as "20 640"."""
    return f"{number:,}".replace(",", " ")


HOUSING = File(
    "california-housing/housing.csv",
    "2364609dc48bec7df3ba9dbb7041478e704ecddcee70ef1827ec3fc49d22c0cc",
    ("https://raw.githubusercontent.com/ageron/data/2ea73147454d2ff8c8a933913be4606f05b352ca/housing/housing.csv",),
)
