"""The exercises of the chapter on losses for numbers."""

import torch

from lib import losses
from lib.exercises._answers import unlike_in_shape
from lib.exercises._engine import Exercise


def several_levels() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 triples of predictions (N, K), targets (N,) and levels (K,), from 2 rows and 2 levels upwards."""
    generator = torch.Generator().manual_seed(0)
    triples = []
    for number in range(300):
        rows, count = 2 + number % 5 + number // 60, 2 + number % 3
        predictions = torch.randn(rows, count, generator=generator, dtype=torch.float64) * (1 + number % 4)
        target = torch.randn(rows, generator=generator, dtype=torch.float64)
        levels = 0.05 + 0.9 * torch.rand(count, generator=generator, dtype=torch.float64)
        triples.append((predictions, target, levels.sort().values))
    return triples


def quantile_gradient_has_the_shape_of_the_predictions(gradient, predictions, target, levels):
    """One number for each prediction: the gradient is a tensor of the shape of the predictions."""
    return unlike_in_shape(gradient(predictions, target, levels), predictions.shape)


def quantile_gradient_lifts_what_is_too_low(gradient, predictions, target, levels):
    """Negative where the prediction is too low, so that a step against it lifts the prediction; positive above."""
    slope, residual = gradient(predictions, target, levels), predictions - target[:, None]
    if (slope * residual > 0).all():
        return None
    row, column = (slope * residual <= 0).nonzero()[0].tolist()
    return (
        f"the residual of row {row}, level {column} is {residual[row, column].item():+.4f}, its slope "
        f"{slope[row, column].item():+.4f} (is the sign right? does each row meet its own target?)"
    )


def quantile_gradient_weighs_by_its_level(gradient, predictions, target, levels):
    """At level q, the slope below the target is to the slope above it as -q to 1 - q."""
    low, high = (gradient(target[:, None].expand_as(predictions) + side, target, levels) for side in (-1.0, 1.0))
    found, wanted = -(low / high), (levels / (1 - levels)).expand_as(predictions)
    if torch.allclose(found.to(wanted.dtype), wanted, rtol=1e-4):
        return None
    column = int(((found - wanted).abs() / wanted).amax(0).argmax())
    return (
        f"at level {levels[column].item():.3f} the pulls from below and above should be as "
        f"{wanted[0, column].item():.3f} to 1, they are as {found[0, column].item():.3f} to 1"
    )


def quantile_gradient_is_that_of_the_mean(gradient, predictions, target, levels):
    """The same rows twice over have half the gradient each, as the loss is a mean."""
    once = gradient(predictions, target, levels)
    twice = gradient(torch.cat([predictions, predictions]), torch.cat([target, target]), levels)
    if torch.allclose(twice[: len(once)], once / 2):
        return None
    return f"doubling the rows takes {once[0, 0].item():.4f} to {twice[0, 0].item():.4f} (what does a mean divide by?)"


def quantile_gradient_predicts_the_change_of_the_loss(gradient, predictions, target, levels):
    """A small step d changes the mean over all rows and levels by the gradient times d."""
    step = 1e-6 * torch.randn(predictions.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ahead, behind = (
        sum(
            losses.quantile_loss((predictions + side * step)[:, k], target, q=level.item())
            for k, level in enumerate(levels)
        )
        / len(levels)
        for side in (1, -1)
    )
    change, predicted = ahead - behind, 2 * (gradient(predictions, target, levels).double() * step).sum()
    if torch.isclose(change, predicted, rtol=1e-3, atol=1e-12):
        return None
    return f"the loss changed {(change / predicted).item():.3f} times as much as the gradient says (divided by what?)"


def samples_with_outliers() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs of samples (B, N), N odd, with a few numbers far out, and a threshold."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(300):
        rows, size = 2 + number % 3, 5 + 2 * (number % 4)
        samples = torch.randn(rows, size, generator=generator, dtype=torch.float64) * (1 + number % 5)
        samples[:, 0] += 20.0 * (1 + number // 60)
        pairs.append((samples, 0.25 * (1 + number % 8)))
    return pairs


def location_is_one_number_per_sample(location, samples, delta):
    """One number for each row, a tensor of shape (B,)."""
    return unlike_in_shape(location(samples, delta), (len(samples),))


def location_of_a_row_ignores_the_other_rows(location, samples, delta):
    """The same for a row whether it stands alone or among others."""
    return _unlike(location(samples[:1], delta), location(samples, delta)[:1], "alone,")


def location_lies_within_the_sample(location, samples, delta):
    """Between the least and the largest number of its row."""
    found = location(samples, delta)
    low, high = samples.amin(1), samples.amax(1)
    if ((low - 1e-6 <= found) & (found <= high + 1e-6)).all():
        return None
    return "a row's location lies outside its row (does the search walk downhill?)"


def location_follows_a_shift(location, samples, delta):
    """Adding 7 to all numbers adds 7 to the location."""
    return _unlike(location(samples + 7, delta), location(samples, delta) + 7, "after the shift")


def location_changes_units(location, samples, delta):
    """In seconds instead of minutes, samples and threshold times 60, the location is 60 times the old one."""
    return _unlike(location(60 * samples, 60 * delta) / 60, location(samples, delta), "in seconds, over 60,")


def location_with_a_huge_threshold_is_the_mean(location, samples, delta):
    """The mean, where the threshold is larger than every residual."""
    return _unlike(location(samples, 1e4), samples.mean(1), "with delta = 10000")


def location_with_a_tiny_threshold_is_the_median(location, samples, delta):
    """The median of an odd number of samples, where the threshold is tiny."""
    return _unlike(location(samples, 1e-6), samples.median(1).values, "with delta = 0.000001")


def location_balances_the_pulls(location, samples, delta):
    """There the pulls, the clipped residuals of the row, add up to zero."""
    found = location(samples, delta)
    worst = (found[:, None] - samples).clamp(-delta, delta).sum(1).abs().max().item()
    return None if worst < 1e-3 else f"the clipped residuals of a row add up to {worst:.4f}"


def location_ignores_how_far_an_outlier_is(location, samples, delta):
    """Unchanged when a number far out moves a thousand times further out."""
    moved = samples.clone()
    moved[:, 0] *= 1000
    return _unlike(location(moved, delta), location(samples, delta), "with the outlier moved")


EXERCISES = (
    Exercise(
        "quantile_gradient",
        several_levels,
        (
            quantile_gradient_has_the_shape_of_the_predictions,
            quantile_gradient_lifts_what_is_too_low,
            quantile_gradient_weighs_by_its_level,
            quantile_gradient_is_that_of_the_mean,
            quantile_gradient_predicts_the_change_of_the_loss,
        ),
    ),
    Exercise(
        "huber_location",
        samples_with_outliers,
        (
            location_is_one_number_per_sample,
            location_of_a_row_ignores_the_other_rows,
            location_lies_within_the_sample,
            location_follows_a_shift,
            location_changes_units,
            location_with_a_huge_threshold_is_the_mean,
            location_with_a_tiny_threshold_is_the_median,
            location_balances_the_pulls,
            location_ignores_how_far_an_outlier_is,
        ),
    ),
)


def _unlike(found: torch.Tensor, wanted: torch.Tensor, when: str) -> str | None:
    if torch.allclose(found.to(wanted.dtype), wanted, rtol=1e-4, atol=1e-3):
        return None
    row = int((found - wanted).abs().argmax())
    return f"{when} row {row} has {found[row].item():.4f}, wanted is {wanted[row].item():.4f}"
