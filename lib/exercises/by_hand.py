"""The exercises of the chapter on losses worked by hand."""

import torch

from lib import losses
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def residuals_and_thresholds() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs of residuals, some of them at the threshold, and thresholds: the article's box first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([2.0, -2.0], dtype=torch.float64), 1.0)]
    for number in range(1, 300):
        beta = (1.0, 0.5, 2.0, 0.1, 7.5)[number % 5]
        shape = ((2,), (4,), (2, 3), ())[number % 4]
        residuals = 2 * beta * torch.randn(shape, generator=generator, dtype=torch.float64)
        pairs.append((torch.where(residuals.abs() < 0.1 * beta, beta, residuals), beta))
    return pairs


def error_has_the_shape_of_the_residuals(error, residuals, beta):
    """One number for each residual: a tensor of the shape of the residuals."""
    return unlike_in_shape(error(residuals, beta), residuals.shape)


def error_is_even(error, residuals, beta):
    """The same for a prediction that is too high as for one that is as much too low."""
    there, back = error(residuals, beta), error(-residuals, beta)
    if torch.allclose(there, back):
        return None
    return f"for the residuals below it is {few(there)}, for their opposites {few(back)}"


def error_is_nothing_where_the_branches_meet(error, residuals, beta):
    """Zero at residuals of beta and -beta, where parabola and line touch."""
    worst = error(torch.tensor([beta, -beta], dtype=torch.float64), beta).abs().max().item()
    return None if worst < 1e-9 * beta else f"there it is {worst:.4f} (which number is compared with beta?)"


def error_is_positive_outside_and_negative_inside(error, residuals, beta):
    """Above zero beyond beta, where the parabola lies above the line; below zero within, where the line is too low."""
    outside, inside = error(torch.tensor([3 * beta, beta / 3], dtype=torch.float64), beta).tolist()
    if outside > 0 > inside:
        return None
    return f"for a residual of 3 beta it is {outside:.4f}, for one of beta / 3 it is {inside:.4f}"


def error_keeps_its_unit(error, residuals, beta):
    """Ten times as large when residuals and beta are ten times as large: it has the unit of the residual."""
    once, tenfold = error(residuals, beta), error(10 * residuals, 10 * beta)
    if torch.allclose(tenfold, 10 * once):
        return None
    return f"it goes from {few(once)} to {few(tenfold)} (where does beta enter?)"


def error_added_to_the_loss_gives_the_other_branch(error, residuals, beta):
    """Added to the smooth L1 loss, it gives the value of the branch that should not have been used."""
    size = residuals.abs()
    parabola, line = size**2 / (2 * beta), size - beta / 2
    loss = losses.smooth_l1_loss(residuals, torch.zeros_like(residuals), beta=beta, reduction="none")
    reached, wanted = loss + error(residuals, beta), torch.where(size > beta, parabola, line)
    return None if torch.allclose(reached, wanted) else f"the sum is {few(reached)}, the other branch {few(wanted)}"


def points() -> list[tuple[torch.Tensor]]:
    """Return 300 points at which slopes are wanted, in several shapes."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2,), (3,), (2, 2), (1,), (2, 3), (5,)]
    return [(torch.randn(shapes[n % 6], generator=generator, dtype=torch.float64),) for n in range(300)]


def slope_has_the_shape_of_the_point(slope, point):
    """One slope for each entry: a tensor of the shape of the point."""
    return unlike_in_shape(slope(point, lambda x: x.sum()), point.shape)


def slope_of_a_constant_is_zero(slope, point):
    """Zero for a loss that does not depend on the point."""
    found = slope(point, lambda x: torch.tensor(3.0, dtype=torch.float64))
    return None if (found == 0).all() else f"for a loss that is always 3 it is {few(found)}"


def slope_of_a_weighted_sum_is_its_weights(slope, point):
    """For the loss 1 x_1 + 2 x_2 + 3 x_3 + ..., the slopes 1, 2, 3, ..."""
    weights = torch.arange(1, point.numel() + 1, dtype=torch.float64).reshape(point.shape)
    found = slope(point, lambda x: (weights * x).sum())
    if torch.allclose(found, weights, rtol=1e-4, atol=0):
        return None
    return f"it is {few(found)} (one entry at a time? divided by the whole distance between the two points?)"


def slope_is_that_of_the_middle(slope, point):
    """Right to nine digits for a sum of exponentials: that takes steps to both sides, neither long nor tiny."""
    found = slope(point, lambda x: x.exp().sum())
    worst = ((found - point.exp()).abs().max() / point.exp().max()).item()
    if worst < 2e-9:
        return None
    return f"it is off by a share of {worst:.1e} (a step on one side only? longer than 1e-4, or tiny?)"


def slope_is_that_of_cross_entropy(slope, point):
    """For cross-entropy, prediction minus truth."""
    logits = point.reshape(1, -1)
    found = slope(logits, lambda z: losses.cross_entropy(z, torch.tensor([0])))
    wanted = logits.softmax(1) - torch.nn.functional.one_hot(torch.tensor([0]), logits.shape[1])
    return None if torch.allclose(found, wanted, atol=1e-8) else f"it is {few(found)}, wanted is {few(wanted)}"


def slope_survives_large_entries(slope, point):
    """Right to seven digits also where an entry is in the millions: the step grows with the entry."""
    large = 1e6 * (1 + point.abs())
    worst = (slope(large, lambda x: x.square().sum()) / (2 * large) - 1).abs().max().item()
    if worst < 1e-7:
        return None
    return f"for the squares of the entries below, in millions, it is off by a share of {worst:.1e}"


EXERCISES = (
    Exercise(
        "error_of_the_wrong_branch",
        residuals_and_thresholds,
        (
            error_has_the_shape_of_the_residuals,
            error_is_even,
            error_is_nothing_where_the_branches_meet,
            error_is_positive_outside_and_negative_inside,
            error_keeps_its_unit,
            error_added_to_the_loss_gives_the_other_branch,
        ),
    ),
    Exercise(
        "slope_by_differences",
        points,
        (
            slope_has_the_shape_of_the_point,
            slope_of_a_constant_is_zero,
            slope_of_a_weighted_sum_is_its_weights,
            slope_is_that_of_the_middle,
            slope_is_that_of_cross_entropy,
            slope_survives_large_entries,
        ),
    ),
)
