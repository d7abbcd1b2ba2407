"""California housing: what the loader returns, that it is the published data, and that nothing else passes for it."""

import hashlib

import numpy as np
import pytest
import torch

from lib.data import DataError, cache, housing, load_housing
from lib.data.housing import CAP, NUMBERS, PLACES, parse_table

HEADER = ",".join((*NUMBERS, "median_house_value", "ocean_proximity"))


@pytest.fixture(params=["whatever is there", "the stand-in"])
def data(request):
    if request.param == "the stand-in":
        request.getfixturevalue("empty_cache")
    return load_housing()


def row(*values, place="INLAND") -> str:
    return ",".join([*map(str, values), place])


# What the loader returns


def test_the_schema_is_the_same_for_the_real_data_and_the_stand_in(data):
    numbers, places, prices, source = data
    count = len(prices)
    assert (numbers.shape, places.shape, prices.shape) == ((count, 8), (count,), (count,))
    assert (numbers.dtype, places.dtype, prices.dtype) == (torch.float32, torch.int64, torch.float32)
    assert f"{count:,} districts".replace(",", " ") in source
    assert "\n" not in source
    assert "/" not in source
    assert 0 <= places.min() <= places.max() < len(PLACES)


def test_only_bedrooms_are_missing_and_about_one_in_a_hundred(data):
    missing = data.numbers.isnan().float().mean(0)
    assert 0.005 < missing[NUMBERS.index("total_bedrooms")] < 0.02
    assert missing.count_nonzero() == 1


def test_prices_end_at_the_cap_and_some_are_there(data):
    assert data.prices.max() == CAP
    assert 0.01 < (data.prices == CAP).float().mean() < 0.1
    assert data.prices.min() >= 14_999
    assert ((data.prices <= 500_000) | (data.prices == CAP)).all()


def test_districts_lie_in_california_and_their_counts_are_counts(data):
    columns = dict(zip(NUMBERS, data.numbers.T, strict=True))
    assert -125 < columns["longitude"].min() < columns["longitude"].max() < -114
    assert 32 < columns["latitude"].min() < columns["latitude"].max() < 42
    assert ((columns["housing_median_age"] >= 1) & (columns["housing_median_age"] <= 52)).all()
    for name in ("total_rooms", "population", "households", "median_income"):
        assert (columns[name] > 0).all()
    bedrooms = columns["total_bedrooms"]
    assert (bedrooms[~bedrooms.isnan()] > 0).all()


def test_dear_districts_are_rich_and_near_the_sea(data):
    income = data.numbers[:, NUMBERS.index("median_income")]
    assert 0.5 < torch.corrcoef(torch.stack([income, data.prices]))[0, 1] < 0.9
    inland = data.places == PLACES.index("INLAND")
    assert data.prices[inland].mean() < 0.7 * data.prices[~inland].mean()


def test_every_load_returns_memory_of_its_own(data):
    data.numbers.fill_(7)
    data.places.fill_(0)
    data.prices.fill_(7)
    again = load_housing()
    assert not (again.numbers == 7).all()
    assert again.places.count_nonzero()
    assert not (again.prices == 7).any()


def test_the_real_data_are_the_published_ones():
    data = load_housing()
    if not data.is_real:
        pytest.skip(f"the real data are not in the cache: {data.source}")
    assert data.numbers.shape == (20640, 8)
    assert data.numbers.isnan().sum() == 207
    assert data.places.bincount().tolist() == [9136, 6551, 2658, 2290, 5]
    assert (data.prices == CAP).sum() == 965
    assert data.prices.double().mean().item() == pytest.approx(206_855.8169, abs=1e-3)
    assert data.numbers.double().nanmean(0).tolist() == pytest.approx(
        [-119.5697, 35.6319, 28.6395, 2635.7631, 537.8706, 1425.4767, 499.5397, 3.8707], abs=1e-3
    )


# The stand-in


def test_a_stand_in_says_what_it_is_and_why_once(empty_cache, capsys):
    assert not load_housing().is_real
    assert load_housing().source == "Stand-in for California housing: generated, 4 000 districts"
    message = capsys.readouterr().err
    assert message.count("California housing is not available, so a small stand-in takes its place.") == 1
    assert "set LOSSES_DATA to a folder" in message


def test_without_a_fallback_what_is_missing_is_an_error(empty_cache):
    with pytest.raises(DataError, match=r"california-housing/housing\.csv cannot be downloaded"):
        load_housing(fallback=False)


def test_a_stand_in_is_deterministic_and_leaves_the_random_generators_alone(empty_cache):
    torch.manual_seed(1)
    np.random.seed(1)
    before = load_housing()
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    assert (torch.rand(1), np.random.rand()) == drawn
    for one, other in zip(before[:3], load_housing()[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_file_with_another_checksum_is_never_used(empty_cache):
    file = empty_cache / "california-housing" / "housing.csv"
    file.parent.mkdir()
    file.write_text(f"{HEADER}\n")
    assert not load_housing().is_real
    assert not file.exists()


# Reading the file


def test_parsing_undoes_writing():
    random = np.random.RandomState(0)
    table = random.uniform(1, 9, (50, 9)).astype(np.float32)
    places = random.randint(len(PLACES), size=50)
    text = "\n".join([HEADER, *(row(*values, place=PLACES[i]) for values, i in zip(table, places, strict=True))])
    numbers, kinds, prices = parse_table(text)
    assert np.array_equal(numbers.numpy(), table[:, :8])
    assert np.array_equal(kinds.numpy(), places)
    assert np.array_equal(prices.numpy(), table[:, 8])


def test_missing_bedrooms_become_nan_and_nothing_else_may_be_missing():
    whole = [-122.0, 37.0, 41, 880, 129, 322, 126, 8.3, 452600]
    for column in range(9):
        holed = [*whole[:column], "", *whole[column + 1 :]]
        text = f"{HEADER}\n{row(*whole)}\n{row(*holed)}\n"
        if column == NUMBERS.index("total_bedrooms"):
            assert parse_table(text)[0].isnan().nonzero().tolist() == [[1, column]]
        else:
            with pytest.raises(ValueError, match="line 3 of the table is no district"):
                parse_table(text)


@pytest.mark.parametrize(
    "line",
    [
        row(*range(8)),
        row(*range(10)),
        row(*range(9), place="MOON"),
        row(*range(8), "dear"),
        "INLAND",
    ],
)
def test_a_line_that_is_no_district_is_refused_by_its_number(line):
    with pytest.raises(ValueError, match="line 3 of the table is no district") as caught:
        parse_table(f"{HEADER}\n{row(*range(9))}\n{line}\n")
    assert line in str(caught.value)


@pytest.mark.parametrize("text", ["", "<html>not found</html>", HEADER.replace("population", "people"), HEADER + ",x"])
def test_a_table_with_other_columns_is_refused(text):
    with pytest.raises(ValueError, match="the table should have the columns longitude, latitude"):
        parse_table(text)


def test_the_file_is_parsed_from_the_cache(empty_cache, monkeypatch):
    content = f"{HEADER}\n{row(-122, 37, 41, 880, '', 322, 126, 8.3, 500001.0, place='ISLAND')}\n".encode()
    file = cache.File("california-housing/housing.csv", hashlib.sha256(content).hexdigest(), ())
    (empty_cache / "california-housing").mkdir()
    (empty_cache / file.path).write_bytes(content)
    monkeypatch.setattr(housing, "HOUSING", file)
    data = load_housing()
    assert data.is_real
    assert data.source == "California housing (Pace and Barry), 1 districts"
    assert data.places.tolist() == [PLACES.index("ISLAND")]
    assert data.prices.tolist() == [CAP]
