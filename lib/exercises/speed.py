"""The exercises of the chapter on speed."""

import math
from numbers import Real

import torch

from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def shares_and_factors() -> list[tuple[float, float]]:
    """Return 300 pairs of a share of the time, from 0 to 1, and a factor of at least 1: plain ones first."""
    return [((number % 20) / 19, 1 + (number * 7 % 15) * (1 + number // 60)) for number in range(9, 309)]


def speedup_is_one_number(speedup, share, factor):
    """One number."""
    value = speedup(share, factor)
    return None if isinstance(value, Real) else f"it returned {type(value).__name__}"


def speedup_is_one_where_nothing_becomes_faster(speedup, share, factor):
    """Exactly 1 for a factor of 1, and for a share of 0."""
    return _unequal_numbers(speedup(share, 1.0), 1, "for a factor of 1") or _unequal_numbers(
        speedup(0.0, factor), 1, "for a share of 0"
    )


def speedup_of_everything_is_the_factor(speedup, share, factor):
    """The factor itself for a share of 1."""
    return _unequal_numbers(speedup(1.0, factor), factor, "for a share of 1")


def speedup_has_a_limit(speedup, share, factor):
    """Never above 1 / (1 - share), the speed-up if the part took no time at all."""
    value, limit = speedup(share, factor), 1 / max(1 - share, 1e-12)
    return None if value <= limit * (1 + 1e-9) else f"it is {value:.4g}, but the rest alone takes 1 / {limit:.4g}"


def speedup_adds_up_times(speedup, share, factor):
    """The time before, divided by the time after; after is the rest as it was and the part, divided by the factor."""
    return _unequal_numbers(speedup(share, factor), 1 / (1 - share + share / factor), "for the numbers below")


def shares_of_the_way() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs of how far the training has come, shape (K,), each from 0 to 1, and a peak."""
    generator = torch.Generator().manual_seed(0)
    first = torch.tensor([0.0, 0.15, 0.3, 0.65, 1.0], dtype=torch.float64)
    rest = [torch.rand(1 + number % 6, generator=generator, dtype=torch.float64) for number in range(1, 300)]
    return [(done, (1 + number % 9) / 1000) for number, done in enumerate([first, *rest])]


def cycle_has_the_shape_of_the_way(cycle, done, peak):
    """One rate for each share of the way."""
    return unlike_in_shape(cycle(done, peak), done.shape)


def cycle_starts_low_peaks_and_ends_at_zero(cycle, done, peak):
    """A 25th of the peak at the start, the peak after 30 % of the way, 0 at the end."""
    corners = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    return _unequal(cycle(corners, peak), peak * torch.tensor([0.04, 1.0, 0.0], dtype=torch.float64), "at 0, 0.3 and 1")


def cycle_rises_in_a_straight_line(cycle, done, peak):
    """On the way up a straight line: half-way between two shares, the mean of their rates."""
    low, high = 0.3 * done, 0.3 * done.flip(0)
    wanted = (cycle(low, peak) + cycle(high, peak)) / 2
    return _unequal(cycle((low + high) / 2, peak), wanted, "half-way between two shares below 0.3")


def cycle_falls_as_half_a_cosine(cycle, done, peak):
    """On the way down half a wave of a cosine: the peak at first, half of it half-way, 0 at last."""
    down = 0.3 + 0.7 * done
    wanted = peak * (1 + torch.cos(math.pi * done)) / 2
    return _unequal(cycle(down, peak), wanted, f"at {few(down)}")


def cycle_scales_with_the_peak(cycle, done, peak):
    """Twice as large everywhere for twice the peak."""
    return _unequal(cycle(done, 2 * peak), 2 * cycle(done, peak), "for twice the peak")


def numbers_to_round() -> list[tuple[torch.Tensor]]:
    """Return 300 float32 tensors, shape (K,): a plain one, ties between two neighbours, then numbers of all sizes."""
    generator = torch.Generator().manual_seed(0)
    plain = torch.tensor([1.0, 1.00390625, 1.01171875, -1.00390625, 0.1, -3.14159274])
    rest = []
    for number in range(1, 300):
        mantissa = torch.randn(6, generator=generator) * 2.0 ** (number % 60 - 30)
        if number % 3 == 0:  # a tie: the first bit that is dropped is 1, all behind it are 0
            mantissa = ((mantissa.view(torch.int32) & -65536) + 32768).view(torch.float32)
        rest.append((mantissa,))
    return [(plain,), *rest]


def rounded_has_the_shape_and_type_of_the_numbers(rounded, numbers):
    """A float32 tensor of the same shape."""
    found = rounded(numbers)
    wrong = unlike_in_shape(found, numbers.shape)
    return wrong or (None if found.dtype == torch.float32 else f"its dtype is {found.dtype}")


def rounded_numbers_have_16_bits(rounded, numbers):
    """Numbers whose last 16 bits are 0."""
    rest = rounded(numbers).contiguous().view(torch.int32) & 65535
    return None if (rest == 0).all() else f"the last 16 bits of the results are {rest.tolist()}"


def rounded_numbers_stay_as_they_are(rounded, numbers):
    """What has its last 16 bits at 0 is not changed."""
    short = (numbers.view(torch.int32) & -65536).view(torch.float32)
    return _unequal_bits(rounded(short), short, short)


def rounded_numbers_are_the_nearest(rounded, numbers):
    """Never further away than half the gap between neighbours: by a 256th of the number at most."""
    off = ((rounded(numbers) - numbers).abs() / numbers.abs()).max().item()
    return None if off <= 2**-8 else f"one is off by 1 / {1 / off:.1f} of its size"


def rounded_ties_go_to_even(rounded, numbers):
    """Half-way between two neighbours, the one whose last bit is 0; so rounding leans neither way."""
    ties = ((numbers.view(torch.int32) & -65536) + 32768).view(torch.float32)
    return _unequal_bits(rounded(ties), ties.bfloat16().float(), ties)


def rounded_numbers_are_torchs(rounded, numbers):
    """The numbers that PyTorch's conversion gives."""
    return _unequal_bits(rounded(numbers), numbers.bfloat16().float(), numbers)


EXERCISES = (
    Exercise(
        "speedup",
        shares_and_factors,
        (
            speedup_is_one_number,
            speedup_is_one_where_nothing_becomes_faster,
            speedup_of_everything_is_the_factor,
            speedup_has_a_limit,
            speedup_adds_up_times,
        ),
    ),
    Exercise(
        "one_cycle",
        shares_of_the_way,
        (
            cycle_has_the_shape_of_the_way,
            cycle_starts_low_peaks_and_ends_at_zero,
            cycle_rises_in_a_straight_line,
            cycle_falls_as_half_a_cosine,
            cycle_scales_with_the_peak,
        ),
    ),
    Exercise(
        "rounded_to_bfloat16",
        numbers_to_round,
        (
            rounded_has_the_shape_and_type_of_the_numbers,
            rounded_numbers_have_16_bits,
            rounded_numbers_stay_as_they_are,
            rounded_numbers_are_the_nearest,
            rounded_ties_go_to_even,
            rounded_numbers_are_torchs,
        ),
    ),
)


def _unequal_numbers(found: float, wanted: float, when: str) -> str | None:
    if math.isclose(found, wanted, rel_tol=1e-9):
        return None
    return f"{when} it is {found:.4g}, wanted is {wanted:.4g}"


def _unequal(found: torch.Tensor, wanted: torch.Tensor, when: str) -> str | None:
    if torch.allclose(found, wanted.to(found.dtype), rtol=1e-6, atol=1e-12):
        return None
    return f"{when} it is {few(found)}, wanted is {few(wanted)}"


def _unequal_bits(found: torch.Tensor, wanted: torch.Tensor, numbers: torch.Tensor) -> str | None:
    wrong = (found != wanted).nonzero().flatten()
    if not len(wrong):
        return None
    first = wrong[0]
    return f"{numbers[first]:.9g} became {found[first]:.9g}, wanted is {wanted[first]:.9g}"
