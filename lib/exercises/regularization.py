"""The exercises of the chapter on penalties."""

import torch

from lib import losses
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def least_squares_weights() -> list[tuple[torch.Tensor, float, float]]:
    """Return 300 triples of least-squares weights, a strength and a share of L1, 0 and 1 among the shares."""
    generator = torch.Generator().manual_seed(0)
    triples = [(torch.tensor([2.0, -0.2], dtype=torch.float64), 1.0, 0.5)]
    for number in range(1, 300):
        shape = ((3,), (2, 3), (5,), ())[number % 4]
        weights = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        triples.append((weights, (0.5, 1.0, 3.0)[number % 3], (0.5, 0.0, 1.0, 0.2, 0.8)[number % 5]))
    return triples


def shrinkage_has_the_shape_of_the_weights(shrinkage, least_squares, weight, l1_ratio):
    """One weight for each: a tensor of the shape of the least-squares weights."""
    return unlike_in_shape(shrinkage(least_squares, weight, l1_ratio), least_squares.shape)


def shrinkage_does_nothing_without_a_penalty(shrinkage, least_squares, weight, l1_ratio):
    """The least-squares weights themselves where lambda is 0."""
    found = shrinkage(least_squares, 0.0, l1_ratio)
    if torch.allclose(found, least_squares):
        return None
    return f"they become {few(found)} (does each sign survive?)"


def shrinkage_mirrors(shrinkage, least_squares, weight, l1_ratio):
    """Opposite least-squares weights give opposite penalised weights."""
    there, back = shrinkage(least_squares, weight, l1_ratio), shrinkage(-least_squares, weight, l1_ratio)
    return None if torch.allclose(there, -back) else f"{few(there)} and {few(back)} are not opposite"


def shrinkage_stops_at_zero(shrinkage, least_squares, weight, l1_ratio):
    """Never beyond 0: no penalised weight has the sign opposite to its least-squares weight."""
    found = shrinkage(least_squares, weight, l1_ratio)
    return None if (found * least_squares >= 0).all() else f"it gives {few(found)}"


def shrinkage_by_the_square_alone_is_a_division(shrinkage, least_squares, weight, l1_ratio):
    """Without L1 (a share of 0), each weight divided by 1 + lambda."""
    found, wanted = shrinkage(least_squares, weight, 0.0), least_squares / (1 + weight)
    return None if torch.allclose(found, wanted) else f"it gives {few(found)}, wanted is {few(wanted)}"


def shrinkage_is_zero_exactly_within_the_threshold(shrinkage, least_squares, weight, l1_ratio):
    """Exactly 0 for a weight whose slope at 0 is a little below the L1 penalty's, and not for one a little above."""
    edge = weight * l1_ratio / 2
    inside, outside = shrinkage(torch.tensor([0.99 * edge, 1.01 * edge + 1e-3], dtype=torch.float64), weight, l1_ratio)
    if inside == 0 and outside > 0:
        return None
    return f"just inside the threshold it is {inside.item():.4g}, just outside {outside.item():.4g}"


def shrinkage_costs_least(shrinkage, least_squares, weight, l1_ratio):
    """No weight a little larger or smaller costs less: squared distance plus lambda times the elastic net penalty."""

    def cost(w):
        return (w - least_squares) ** 2 + weight * (l1_ratio * w.abs() + (1 - l1_ratio) * w**2)

    found = shrinkage(least_squares, weight, l1_ratio)
    for step in (-1e-3, 1e-3):
        better = cost(found + step) < cost(found) - 1e-12
        if better.any():
            place = int(better.flatten().nonzero()[0])
            before, after = least_squares.flatten()[place].item(), found.flatten()[place].item()
            return f"{before:.4f} becomes {after:.4f}; {'more' if step > 0 else 'less'} is cheaper"
    return None


def tables() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Return 300 triples of inputs (N, M), target (N,) and a strength between 0 and one that leaves no weight."""
    generator = torch.Generator().manual_seed(0)
    triples = []
    for number in range(300):
        rows, columns = 20 + number % 11, 2 + number % 3
        inputs = torch.randn(rows, columns, generator=generator, dtype=torch.float64) + number % 4
        truth = torch.randn(columns, generator=generator, dtype=torch.float64)
        target = inputs @ truth + 3 + 0.5 * torch.randn(rows, generator=generator, dtype=torch.float64)
        weight = (0.2, 0.5, 0.1, 0.05, 0.7)[number % 5] * _largest_useful(inputs, target)
        triples.append((inputs, target, weight))
    return triples


def lasso_returns_the_weights_and_the_bias(lasso):
    """One number for each column and, last, the bias: a tensor of shape (M + 1,)."""
    inputs, target, weight = tables()[0]
    return unlike_in_shape(lasso(inputs, target, weight), (inputs.shape[1] + 1,))


def lasso_predicts_the_mean_on_average(lasso):
    """Residuals with a mean of 0, as the bias costs nothing."""
    for inputs, target, weight in tables()[:20]:
        mean = _residual(lasso(inputs, target, weight), inputs, target).mean().item()
        if not abs(mean) < 1e-6:
            return f"their mean is {mean:+.4f} (is the bias penalised? does it fit the inputs as they were?)"
    return None


def lasso_is_empty_beyond_the_largest_slope(lasso):
    """All weights exactly 0 where lambda is above every slope at 0."""
    for inputs, target, _ in tables()[:20]:
        found = lasso(inputs, target, 1.01 * _largest_useful(inputs, target))[:-1]
        if not (found == 0).all():
            return f"the weights are {few(found)}"
    return None


def lasso_balances_slope_and_penalty(lasso, inputs, target, weight):
    """A slope of the mean squared error within lambda where a weight is 0, and lambda against its sign elsewhere."""
    found = lasso(inputs, target, weight)
    w, residual = found[:-1], _residual(found, inputs, target)
    slope = 2 * inputs.T @ residual / len(target)
    off = torch.where(w == 0, (slope.abs() - weight).clamp(min=0), (slope + weight * w.sign()).abs())
    worst = int(off.nan_to_num(nan=torch.inf).argmax())
    if off[worst] < 1e-5 * (1 + weight):
        return None
    return f"at weight {w[worst].item():.5g} the slope is {slope[worst].item():+.5g}, and lambda is {weight:.5g}"


def lasso_is_the_minimum(lasso):
    """On one table, no cheaper than 1 000 disturbed weights and biases, by lib's own loss and penalty."""
    inputs, target, weight = tables()[0]

    def cost(parameters):
        loss = losses.mse_loss(inputs @ parameters[:-1] + parameters[-1], target)
        return (loss + weight * losses.l1_penalty([("w", parameters[:-1])])).item()

    found = lasso(inputs, target, weight)
    shifts = 0.1 * torch.randn(1000, len(found), generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    least = min(cost(found + shift) for shift in shifts)
    return None if cost(found) < least else f"it costs {cost(found):.5f}, a disturbed one {least:.5f}"


EXERCISES = (
    Exercise(
        "elastic_net_shrinkage",
        least_squares_weights,
        (
            shrinkage_has_the_shape_of_the_weights,
            shrinkage_does_nothing_without_a_penalty,
            shrinkage_mirrors,
            shrinkage_stops_at_zero,
            shrinkage_by_the_square_alone_is_a_division,
            shrinkage_is_zero_exactly_within_the_threshold,
            shrinkage_costs_least,
        ),
    ),
    Exercise(
        "lasso_by_proximal_steps",
        tables,
        (
            lasso_returns_the_weights_and_the_bias,
            lasso_predicts_the_mean_on_average,
            lasso_is_empty_beyond_the_largest_slope,
            lasso_balances_slope_and_penalty,
            lasso_is_the_minimum,
        ),
    ),
)


def _largest_useful(inputs, target) -> float:
    """Return the strength from which on the lasso has no weight: the largest slope at 0."""
    centred = inputs - inputs.mean(0)
    return (2 * centred.T @ (target - target.mean()) / len(target)).abs().max().item()


def _residual(found, inputs, target):
    return inputs @ found[:-1] + found[-1] - target
