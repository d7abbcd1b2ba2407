"""The exercises of the chapter that compares losses."""

import math

import torch

from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise

# The curvature of the log-likelihood in the inverse temperature


def scores_with_inverse_temperatures() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs of logits (N, C) and an inverse temperature from 0.25 to 4."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(300):
        rows, classes = 2 + number % 4 + number // 60, 3 + number % 3
        logits = (1 + number % 4) * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
        pairs.append((logits, 2.0 ** (number % 5 - 2)))
    return pairs


def curvature_is_one_number(curvature, logits, beta):
    """One number for the whole batch, a scalar tensor."""
    return unlike_in_shape(curvature(logits, beta), ())


def curvature_of_indifference_is_zero(curvature, logits, beta):
    """0 where all logits of a row are equal: no beta changes their softmax."""
    value = curvature(torch.full_like(logits, 3.0), beta).item()
    return None if abs(value) < 1e-9 else f"for logits that are all 3 it is {value:.4f} (where is the expected logit?)"


def curvature_is_nowhere_below_zero(curvature, logits, beta):
    """Never below 0: the loss is convex in beta."""
    value = curvature(logits, beta).item()
    return None if value >= -1e-9 else f"it is {value:.4f} (is the sign right?)"


def curvature_is_that_of_the_mean(curvature, logits, beta):
    """The curvature of a batch is the mean of the curvatures of its rows, each taken alone."""
    rows = [curvature(row[None], beta).item() for row in logits]
    value, mean = curvature(logits, beta).item(), sum(rows) / len(rows)
    if math.isclose(value, mean, rel_tol=1e-6, abs_tol=1e-9):
        return None
    return f"the mean over the rows is {mean:.4f}, that of the batch {value:.4f} (softmax over which axis?)"


def curvature_quadruples_when_the_unit_is_halved(curvature, logits, beta):
    """Four times as large for twice the logits at half of beta: the probabilities are the same, the unit is not."""
    once, doubled = curvature(logits, beta).item(), curvature(2 * logits, beta / 2).item()
    if math.isclose(doubled, 4 * once, rel_tol=1e-6, abs_tol=1e-9):
        return None
    return f"it goes from {once:.4f} to {doubled:.4f} (what is squared? softmax of beta times the logits?)"


def curvature_predicts_the_change_of_the_slope(curvature, logits, beta):
    """A small change of beta changes the slope of the loss by the curvature times that."""
    step = 1e-5 * beta
    ahead, behind = (
        (((beta + side * step) * logits).softmax(1) * logits).sum(1).mean().item()  # the true logits cancel
        for side in (1, -1)
    )
    wanted, value = (ahead - behind) / (2 * step), curvature(logits, beta).item()
    if math.isclose(value, wanted, rel_tol=1e-4, abs_tol=1e-6):
        return None
    return f"the slope says {wanted:.5f}, the answer {value:.5f} (averaged under which probabilities?)"


def curvature_survives_large_beta(curvature, logits, beta):
    """Finite and next to 0 at a hundred thousand times beta, where the softmax is all but 0 and 1."""
    value = curvature(logits, 1e5 * beta).item()
    return None if abs(value) < 1e-3 else f"there it is {value} (what does exp(1000) do?)"


# The interval of paired differences


def paired_results() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Return 300 triples: results of two methods for the same seeds, (N,) each, and Student's t for N - 1."""
    generator = torch.Generator().manual_seed(0)
    students_t = {3: 4.303, 5: 2.776, 8: 2.365, 10: 2.262}
    triples = []
    for number in range(300):
        seeds = [3, 5, 8, 10][number % 4]
        luck = torch.randn(seeds, generator=generator, dtype=torch.float64)
        own = torch.randn(2, seeds, generator=generator, dtype=torch.float64) * (0.1 + number % 3)
        first, second = 90 + luck + own
        triples.append((first + number % 5 / 5, second, students_t[seeds]))
    return triples


def _two(interval, *arguments) -> tuple[float, float]:
    middle, half = interval(*arguments)
    return float(middle), float(half)


def interval_is_two_numbers(interval, first, second, t):
    """Two numbers: the middle and half of the width, the latter not negative."""
    answer = interval(first, second, t)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return f"it returned {answer!r}"
    half = float(answer[1])
    return None if half >= 0 else f"half of the width is {half}"


def interval_lies_around_first_minus_second(interval, first, second, t):
    """The middle is the mean of the first results minus that of the second."""
    middle, wanted = _two(interval, first, second, t)[0], (first.mean() - second.mean()).item()
    return None if abs(middle - wanted) < 1e-9 else f"it is {middle:.4f}, wanted is {wanted:.4f} (which minus which?)"


def interval_ignores_the_luck_that_both_share(interval, first, second, t):
    """The same when both methods get the same bonus for a seed: what the seed does to both cancels."""
    bonus = 10 * torch.arange(len(first), dtype=first.dtype)
    plain, lucky = _two(interval, first, second, t), _two(interval, first + bonus, second + bonus, t)
    if all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(plain, lucky, strict=True)):
        return None
    return f"half of the width goes from {plain[1]:.4f} to {lucky[1]:.4f} (differences first, spread afterwards?)"


def interval_of_equal_differences_has_no_width(interval, first, second, t):
    """No width where every difference is the same."""
    half = _two(interval, second + 0.5, second, t)[1]
    return None if half < 1e-9 else f"every difference is 0.5, half of the width is {half:.4f}"


def interval_scales_with_the_differences(interval, first, second, t):
    """Ten times as wide when all results are ten times as large."""
    once, tenfold = _two(interval, first, second, t)[1], _two(interval, 10 * first, 10 * second, t)[1]
    if math.isclose(tenfold, 10 * once, rel_tol=1e-6):
        return None
    return f"half of the width goes from {once:.4f} to {tenfold:.4f} (variance for standard deviation?)"


def interval_has_the_right_width(interval, first, second, t):
    """Half of the width is t times the standard error of the mean difference, estimated with N - 1."""
    half = _two(interval, first, second, t)[1]
    wanted = t * (first - second).std().item() / math.sqrt(len(first))
    if math.isclose(half, wanted, rel_tol=1e-6):
        return None
    return f"it is {half / wanted:.4f} times as wide as it should be (what does a standard error divide by?)"


# Holm's correction


def families_of_p_values() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs: p-values in no order, (M,), and a level."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.rand(3 + number % 6, generator=generator, dtype=torch.float64) ** (1 + number % 5),
            [0.05, 0.2][number % 2],
        )
        for number in range(300)
    ]


def rejections_are_one_for_each(reject, p_values, level):
    """One boolean for each p-value, a tensor of the same shape."""
    answer = reject(p_values, level)
    found = unlike_in_shape(answer, p_values.shape)
    if found or answer.dtype == torch.bool:
        return found
    return f"its dtype is {answer.dtype}"


def rejections_of_one_hypothesis_need_no_correction(reject, p_values, level):
    """A single p-value is rejected where it is at the level or below, and not above."""
    below, above = (bool(reject(torch.tensor([side * level], dtype=p_values.dtype), level)[0]) for side in (0.9, 1.1))
    if below and not above:
        return None
    return f"alone, 0.9 times the level is {'' if below else 'not '}rejected, 1.1 times it is {'' if above else 'not '}"


def rejections_fall_from_the_smallest_on(reject, p_values, level):
    """None that is kept has a smaller p-value than one that is rejected."""
    rejected = reject(p_values, level)
    if rejected.all() or not rejected.any() or p_values[rejected].max() <= p_values[~rejected].min():
        return None
    return f"rejected are {few(p_values[rejected])}, kept are {few(p_values[~rejected])} (put back in order?)"


def rejections_know_how_many_hypotheses_there_are(reject):
    """Of 0.04 and 0.9 at the level 0.05 none is rejected: of two, the smaller one needs 0.025."""
    rejected = reject(torch.tensor([0.04, 0.9], dtype=torch.float64), 0.05)
    return None if not rejected.any() else f"of 0.04 and 0.9 rejected are {rejected.tolist()} (the level over what?)"


def rejections_grow_milder_step_by_step(reject):
    """Of 0.01 and 0.04 at the level 0.05 both are rejected: once the first has fallen, one hypothesis is left."""
    rejected = reject(torch.tensor([0.04, 0.01], dtype=torch.float64), 0.05)
    return None if rejected.all() else f"of 0.04 and 0.01 rejected are {rejected.tolist()} (the same bound for all?)"


def rejections_stop_at_the_first_that_fails(reject):
    """Of 0.03, 0.03 and 0.045 at the level 0.05 none is rejected: the first fails, so the last is not asked."""
    rejected = reject(torch.tensor([0.03, 0.045, 0.03], dtype=torch.float64), 0.05)
    return None if not rejected.any() else f"of 0.03, 0.045 and 0.03 rejected are {rejected.tolist()}"


def rejections_are_holms(reject, p_values, level):
    """Those of Holm's procedure."""
    ascending = p_values.sort().values.tolist()
    bounds = [level / (len(ascending) - step) for step in range(len(ascending))]
    failures = [p for p, bound in zip(ascending, bounds, strict=True) if p > bound]
    wanted = [not failures or p < failures[0] for p in p_values.tolist()]
    answer = reject(p_values, level).tolist()
    return None if answer == wanted else f"rejected are {answer}, wanted is {wanted}"


EXERCISES = (
    Exercise(
        "curvature_in_beta",
        scores_with_inverse_temperatures,
        (
            curvature_is_one_number,
            curvature_of_indifference_is_zero,
            curvature_is_nowhere_below_zero,
            curvature_is_that_of_the_mean,
            curvature_quadruples_when_the_unit_is_halved,
            curvature_predicts_the_change_of_the_slope,
            curvature_survives_large_beta,
        ),
    ),
    Exercise(
        "interval_of_differences",
        paired_results,
        (
            interval_is_two_numbers,
            interval_lies_around_first_minus_second,
            interval_of_equal_differences_has_no_width,
            interval_ignores_the_luck_that_both_share,
            interval_scales_with_the_differences,
            interval_has_the_right_width,
        ),
    ),
    Exercise(
        "holm_rejections",
        families_of_p_values,
        (
            rejections_are_one_for_each,
            rejections_of_one_hypothesis_need_no_correction,
            rejections_know_how_many_hypotheses_there_are,
            rejections_grow_milder_step_by_step,
            rejections_stop_at_the_first_that_fails,
            rejections_fall_from_the_smallest_on,
            rejections_are_holms,
        ),
    ),
)
