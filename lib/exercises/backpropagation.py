"""The exercises of the chapter on backpropagation."""

import torch

from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise

DOUBLE = torch.float64


def probabilities_and_slopes() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of probabilities (N, C), rows that sum to 1, and slopes in them (N, C): an easy pair first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.tensor([[0.5, 0.25, 0.25]], dtype=DOUBLE), torch.tensor([[1.0, 0.0, 0.0]], dtype=DOUBLE))]
    for number in range(1, 300):
        shape = (1 + number % 4, 2 + number % 5)
        logits = (1 + number % 3) * torch.randn(shape, generator=generator, dtype=DOUBLE)
        pairs.append((logits.softmax(1), torch.randn(shape, generator=generator, dtype=DOUBLE)))
    return pairs


def softmax_slope_has_the_shape_of_the_logits(slope_of, probabilities, slopes):
    """One slope for each logit: a tensor of shape (N, C)."""
    return unlike_in_shape(slope_of(probabilities, slopes), probabilities.shape)


def softmax_slope_sums_to_zero(slope_of, probabilities, slopes):
    """Zero as the sum of each row: adding one number to all logits of a row changes no probability."""
    sums = slope_of(probabilities, slopes).sum(1)
    return None if sums.abs().max() < 1e-9 else f"the sums of the rows are {few(sums)} (which mean is subtracted?)"


def softmax_slope_ignores_a_constant(slope_of, probabilities, slopes):
    """Unchanged when 1 is added to all slopes of a row: the probabilities always sum to 1."""
    return _unequal(slope_of(probabilities, slopes + 1), slope_of(probabilities, slopes), "with 1 added")


def softmax_slope_of_cross_entropy_is_prediction_minus_truth(slope_of, probabilities, slopes):
    """For the slopes of -ln p at class 0, p minus the truth: what the fused formula says."""
    truth = torch.zeros_like(probabilities)
    truth[:, 0] = 1
    return _unequal(slope_of(probabilities, -truth / probabilities), probabilities - truth, "for class 0")


def softmax_slope_is_torchs(slope_of, probabilities, slopes):
    """For any slopes, what automatic differentiation of softmax arrives at."""
    logits = probabilities.log().requires_grad_()
    (wanted,) = torch.autograd.grad(logits.softmax(1), logits, slopes)
    return _unequal(slope_of(probabilities, slopes), wanted, "for the slopes below")


def sequences() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 triples of a weight (D, D), inputs (T, D) and the slope in the last state (D,): one number first."""
    generator = torch.Generator().manual_seed(0)
    one = torch.ones(1, 1, dtype=DOUBLE)
    triples = [(0.5 * one, torch.tensor([[1.0], [0.0]], dtype=DOUBLE), one[0])]
    for number in range(1, 300):
        size, steps = 1 + number % 4, 2 + number % 6
        weight = torch.randn(size, size, generator=generator, dtype=DOUBLE)
        inputs = torch.randn(steps, size, generator=generator, dtype=DOUBLE)
        triples.append((weight, inputs, torch.randn(size, generator=generator, dtype=DOUBLE)))
    return triples


def recurrent_gradient_has_the_shape_of_the_weight(gradient_of, weight, inputs, slope):
    """One number for each weight: a tensor of shape (D, D)."""
    return unlike_in_shape(gradient_of(weight, inputs, slope), weight.shape)


def recurrent_gradient_of_one_step_is_zero(gradient_of, weight, inputs, slope):
    """Zero for a single input: the weight then meets only the state 0."""
    found = gradient_of(weight, inputs[:1], slope)
    return None if (found == 0).all() else f"with the first input alone it is {few(found)}"


def recurrent_gradient_of_two_steps_is_an_outer_product(gradient_of, weight, inputs, slope):
    """For two inputs, the slope at the second sum times the first state, a row for each output."""
    first = inputs[0].tanh()
    second = (weight @ first + inputs[1]).tanh()
    wanted = torch.outer(slope * (1 - second**2), first)
    return _unequal(gradient_of(weight, inputs[:2], slope), wanted, "with the first two inputs")


def recurrent_gradient_is_linear_in_the_slope(gradient_of, weight, inputs, slope):
    """Three times as large for three times the slope."""
    return _unequal(gradient_of(weight, inputs, 3 * slope), 3 * gradient_of(weight, inputs, slope), "with 3 times it")


def recurrent_gradient_is_torchs(gradient_of, weight, inputs, slope):
    """For any number of inputs, what automatic differentiation arrives at: the sum over all uses of the weight."""
    leaf = weight.clone().requires_grad_()
    state = torch.zeros_like(slope)
    for x in inputs:
        state = (leaf @ state + x).tanh()
    (wanted,) = torch.autograd.grad(state, leaf, slope)
    return _unequal(gradient_of(weight, inputs, slope), wanted, f"with {len(inputs)} inputs")


EXERCISES = (
    Exercise(
        "softmax_slope",
        probabilities_and_slopes,
        (
            softmax_slope_has_the_shape_of_the_logits,
            softmax_slope_sums_to_zero,
            softmax_slope_ignores_a_constant,
            softmax_slope_of_cross_entropy_is_prediction_minus_truth,
            softmax_slope_is_torchs,
        ),
    ),
    Exercise(
        "recurrent_gradient",
        sequences,
        (
            recurrent_gradient_has_the_shape_of_the_weight,
            recurrent_gradient_of_one_step_is_zero,
            recurrent_gradient_of_two_steps_is_an_outer_product,
            recurrent_gradient_is_linear_in_the_slope,
            recurrent_gradient_is_torchs,
        ),
    ),
)


def _unequal(found: torch.Tensor, wanted: torch.Tensor, when: str) -> str | None:
    if torch.allclose(found, wanted, rtol=1e-7, atol=1e-9):
        return None
    return f"{when} it is {few(found)}, wanted is {few(wanted)}"
