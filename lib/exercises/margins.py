"""The exercises of the chapter on margins."""

import torch

from lib import losses
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def linear_models() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """Return 300 times weights (D,), inputs (N, D), labels (N,) and a penalty; small ones first."""
    generator = torch.Generator().manual_seed(0)
    models = []
    for number in range(300):
        samples, features = 2 + number % 4 + number // 60, 2 + number % 3 + number // 100
        inputs, labels = _samples(generator, samples, features)
        weight = torch.randn(features, generator=generator, dtype=torch.float64)
        models.append((weight, inputs, labels, _penalty(number)))
    return models


def slope_has_the_shape_of_the_weight(slope, weight, inputs, labels, penalty):
    """One number for each weight: a tensor of the shape of the weight."""
    return unlike_in_shape(slope(weight, inputs, labels, penalty), weight.shape)


def slope_of_settled_samples_is_the_penalty_s(slope, weight, inputs, labels, penalty):
    """Lambda times the weight where every sample has a margin above 1: the loss has let go."""
    along = weight / (weight @ weight)  # has the score 1
    found = slope(weight, labels[:, None] * 3 * along.expand_as(inputs), labels, penalty)
    if torch.allclose(found, penalty * weight):
        return None
    return f"there it is {few(found)}, lambda times the weight {few(penalty * weight)}"


def slope_points_uphill(slope, weight, inputs, labels, penalty):
    """From the weight 0, a small step against the slope lowers the objective."""
    start = torch.zeros_like(weight)
    direction = slope(start, inputs, labels, penalty)
    step = 1e-4 * direction / (1 + direction.norm())
    before, after = (_objective(w, inputs, labels, penalty) for w in (start, start - step))
    return None if after < before else f"it goes from {before:.6f} to {after:.6f} (is the sign right?)"


def slope_is_a_mean_over_samples(slope, weight, inputs, labels, penalty):
    """The same when every sample is there twice: the loss is a mean."""
    once = slope(weight, inputs, labels, penalty)
    twice = slope(weight, inputs.repeat(2, 1), labels.repeat(2), penalty)
    return None if torch.allclose(once, twice) else f"it goes from {few(once)} to {few(twice)}"


def slope_predicts_the_change_of_the_objective(slope, weight, inputs, labels, penalty):
    """A small step along one weight changes the objective by that weight's slope times the step."""
    shifts = 1e-5 * torch.eye(len(weight), dtype=weight.dtype)
    measured = torch.tensor(
        [
            (_objective(weight + shift, inputs, labels, penalty) - _objective(weight - shift, inputs, labels, penalty))
            / 2e-5
            for shift in shifts
        ],
        dtype=weight.dtype,
    )
    found = slope(weight, inputs, labels, penalty)
    if torch.allclose(found, measured, rtol=1e-5, atol=1e-6):
        return None
    return f"measured {few(measured)}, told {few(found)} (which factor is missing?)"


def dual_variables() -> list[tuple[torch.Tensor, int, torch.Tensor, torch.Tensor, float]]:
    """Return 300 times dual variables (N,), one of their numbers, inputs (N, D), labels (N,) and a penalty."""
    generator = torch.Generator().manual_seed(1)
    settings = []
    for number in range(300):
        samples, features = 2 + number % 4 + number // 60, 2 + number % 3 + number // 100
        inputs, labels = _samples(generator, samples, features)
        alphas = torch.rand(samples, generator=generator, dtype=torch.float64)
        settings.append((alphas, number % samples, inputs, labels, _penalty(number)))
    return settings


def step_has_the_shape_of_the_alphas(step, alphas, i, inputs, labels, penalty):
    """One number for each sample: a tensor of the shape of the dual variables."""
    return unlike_in_shape(step(alphas, i, inputs, labels, penalty), alphas.shape)


def step_leaves_the_others_alone(step, alphas, i, inputs, labels, penalty):
    """All dual variables but number i are what they were."""
    moved = (step(alphas, i, inputs, labels, penalty) - alphas).abs()
    moved[i] = 0
    return None if moved.max() == 0 else f"number {moved.argmax().item()} moved as well"


def step_stays_between_0_and_1(step, alphas, i, inputs, labels, penalty):
    """Number i stays between 0 and 1."""
    found = step(alphas, i, inputs, labels, penalty)[i].item()
    return None if 0 <= found <= 1 else f"it is {found:.4f}"


def step_never_lowers_the_dual(step, alphas, i, inputs, labels, penalty):
    """The dual objective is never lower than before."""
    before = _dual(alphas, inputs, labels, penalty)
    after = _dual(step(alphas, i, inputs, labels, penalty), inputs, labels, penalty)
    return None if after >= before - 1e-12 else f"it goes from {before:.6f} to {after:.6f} (is the sign right?)"


def step_meets_the_conditions(step, alphas, i, inputs, labels, penalty):
    """After the step, sample i is on the margin; if not, short of it with alpha 1, or beyond it with alpha 0."""
    stepped = step(alphas, i, inputs, labels, penalty)
    weight = (stepped * labels) @ inputs / (penalty * len(labels))
    margin, alpha = (labels[i] * (inputs[i] @ weight)).item(), stepped[i].item()
    if abs(margin - 1) < 1e-6 or (margin < 1 and alpha == 1) or (margin > 1 and alpha == 0):
        return None
    return f"its margin is {margin:.4f}, its alpha {alpha:.4f} (how far is the top of the parabola?)"


def step_is_done_once(step, alphas, i, inputs, labels, penalty):
    """A second step for the same sample changes nothing."""
    once = step(alphas, i, inputs, labels, penalty)
    again = step(once, i, inputs, labels, penalty)
    return None if torch.allclose(once, again) else f"alpha goes from {once[i].item():.4f} to {again[i].item():.4f}"


EXERCISES = (
    Exercise(
        "squared_hinge_slope",
        linear_models,
        (
            slope_has_the_shape_of_the_weight,
            slope_of_settled_samples_is_the_penalty_s,
            slope_points_uphill,
            slope_is_a_mean_over_samples,
            slope_predicts_the_change_of_the_objective,
        ),
    ),
    Exercise(
        "dual_step",
        dual_variables,
        (
            step_has_the_shape_of_the_alphas,
            step_leaves_the_others_alone,
            step_stays_between_0_and_1,
            step_never_lowers_the_dual,
            step_meets_the_conditions,
            step_is_done_once,
        ),
    ),
)


def _samples(generator: torch.Generator, samples: int, features: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normal inputs (N, D) and labels -1 or +1 (N,)."""
    inputs = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    labels = 2.0 * torch.randint(2, (samples,), generator=generator).double() - 1
    return inputs, labels


def _penalty(number: int) -> float:
    return (1.0, 0.5, 0.1, 0.01, 2.0)[number % 5]


def _objective(weight, inputs, labels, penalty) -> float:
    """Return the penalty and the mean squared hinge."""
    return (penalty / 2 * weight @ weight + losses.squared_hinge_loss(inputs @ weight, labels)).item()


def _dual(alphas, inputs, labels, penalty) -> float:
    """Return the dual objective of the hinge."""
    weight = (alphas * labels) @ inputs / (penalty * len(labels))
    return (alphas.mean() - penalty / 2 * weight @ weight).item()
