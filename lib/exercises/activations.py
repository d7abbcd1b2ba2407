"""The exercises of the chapter on activations."""

import math

import torch

from lib import losses
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise

DOUBLE = torch.float64


def pairs_of_slopes() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of slopes, below and above zero, in several shapes and never both small: ReLU first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([0.0], dtype=DOUBLE), torch.tensor([1.0], dtype=DOUBLE))]
    for number in range(1, 300):
        shape = ((2,), (3,), (2, 2), ())[number % 4]
        below = torch.randn(shape, generator=generator, dtype=DOUBLE)
        above = 0.3 + torch.rand(shape, generator=generator, dtype=DOUBLE)
        pairs.append((below, above * (-1) ** number))
    return pairs


def gain_has_the_shape_of_the_slopes(gain, below, above):
    """One gain for each pair of slopes: a tensor of their shape."""
    return unlike_in_shape(gain(below, above), below.shape)


def gain_of_the_identity_is_one(gain):
    """For the slopes 1 and 1 the gain 1: the identity changes nothing."""
    one = torch.ones(1, dtype=DOUBLE)
    found = gain(one, one)
    return None if _same(found, one) else f"it is {few(found)} (what is the mean square of half of the sums?)"


def gain_of_a_steeper_activation_is_smaller(gain, below, above):
    """Half as large where both slopes are twice as large: the weights make up for what the activation adds."""
    once, twice = gain(below, above), gain(2 * below, 2 * above)
    return None if _same(2 * twice, once) else f"it goes from {few(once)} to {few(twice)}"


def gain_ignores_the_signs_of_the_slopes(gain, below, above):
    """The same when the sign of one slope is changed: a square has no sign."""
    here, there = gain(below, above), gain(-below, above)
    return None if _same(here, there) else f"it goes from {few(here)} to {few(there)}"


def gain_keeps_the_mean_square(gain, below, above):
    """Such that gain times output has the mean square 1, when the sums are normal with mean square 1."""
    sums = torch.linspace(-8, 8, 1601, dtype=DOUBLE)
    weights = torch.exp(-(sums**2) / 2)
    weights = weights / weights.sum()
    below, above = below.unsqueeze(-1), above.unsqueeze(-1)
    outputs = torch.where(sums < 0, below * sums, above * sums)
    found = gain(below, above)
    mean_square = (weights * (found * outputs) ** 2).sum(-1)
    return None if _same(mean_square, torch.ones_like(mean_square), 1e-6) else f"it is {few(mean_square)}"


def scores_and_targets() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of scores and of targets between -1 and 1, some of them at the ends: an easy pair first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([0.0, 1.0], dtype=DOUBLE), torch.tensor([0.5, 0.5], dtype=DOUBLE))]
    for number in range(1, 300):
        shape = ((2,), (3,), (2, 2), ())[number % 4]
        z = 3 * torch.randn(shape, generator=generator, dtype=DOUBLE)
        y = 1.6 * torch.rand(shape, generator=generator, dtype=DOUBLE) - 0.8
        pairs.append((z, y.sign() if number % 5 == 0 else y))
    return pairs


def matching_loss_has_the_shape_of_the_scores(loss, z, y):
    """One loss for each score: a tensor of their shape."""
    return unlike_in_shape(loss(z, y), z.shape)


def matching_loss_has_prediction_minus_truth_as_slope(loss, z, y):
    """The slope tanh(z) - y in the score: prediction minus truth."""
    found = (loss(z + 1e-5, y) - loss(z - 1e-5, y)) / 2e-5
    wanted = z.tanh() - y
    return None if _same(found, wanted, 1e-6) else f"it is {few(found)}, wanted is {few(wanted)}"


def matching_loss_is_zero_where_the_prediction_is_right(loss, z, y):
    """Zero where tanh(z) is the target (which constant does that?)."""
    z = z.clamp(-3, 3)
    found = loss(z, z.tanh())
    return None if found.abs().max() < 1e-6 else f"for the targets tanh(z) it is {few(found)}"


def matching_loss_of_a_label_is_a_soft_margin(loss, z, y):
    """For the labels -1 and 1, ln(1 + e^(-2yz)): twice the score in the soft margin loss."""
    y = torch.where(y < 0, -1.0, 1.0).to(DOUBLE)
    found, wanted = loss(z, y), losses.soft_margin_loss(2 * z, y, reduction="none")
    return None if _same(found, wanted, 1e-7) else f"it is {few(found)}, wanted is {few(wanted)}"


def matching_loss_survives_large_scores(loss, z, y):
    """Right for scores in the thousands: there |z| - yz, up to a constant that is no more than ln 2."""
    z = 1000 * (1 + z.abs())
    excess = loss(z, y) - z * (1 - y)
    return None if excess.abs().max() <= math.log(2) + 1e-6 else f"for z = {few(z)} it is {few(loss(z, y))}"


EXERCISES = (
    Exercise(
        "gain_of_two_slopes",
        pairs_of_slopes,
        (
            gain_has_the_shape_of_the_slopes,
            gain_of_the_identity_is_one,
            gain_of_a_steeper_activation_is_smaller,
            gain_ignores_the_signs_of_the_slopes,
            gain_keeps_the_mean_square,
        ),
    ),
    Exercise(
        "matching_loss_of_tanh",
        scores_and_targets,
        (
            matching_loss_has_the_shape_of_the_scores,
            matching_loss_has_prediction_minus_truth_as_slope,
            matching_loss_is_zero_where_the_prediction_is_right,
            matching_loss_of_a_label_is_a_soft_margin,
            matching_loss_survives_large_scores,
        ),
    ),
)


def _same(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(found, wanted, rtol=tolerance, atol=tolerance)
