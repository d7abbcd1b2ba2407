"""The exercises of the chapter on four neurons by hand."""

import torch

from lib import losses
from lib.exercises._answers import few
from lib.exercises._engine import Exercise

DOUBLE = torch.float64


def networks_and_samples() -> list[tuple]:
    """Return 300 tuples of inputs, truths and the parameters of a network: the one of the chapter first."""
    rows = ([2.0], [0.0], [1.0, 0.5, -0.5, -1.0], [0.0, 0.0, 1.0, 1.0], [1.0, -1.0, 2.0, -2.0], 0.0)
    inputs = [tuple(torch.tensor(row, dtype=DOUBLE) for row in rows)]
    generator = torch.Generator().manual_seed(0)
    for number in range(1, 300):
        samples, neurons = 1 + number % 5, 1 + number % 6
        x = 2 * torch.randn(samples, generator=generator, dtype=DOUBLE)
        y = torch.randint(2, (samples,), generator=generator).to(DOUBLE)
        w, b, v = torch.randn(3, neurons, generator=generator, dtype=DOUBLE)
        inputs.append((x, y, w, b, v, torch.randn((), generator=generator, dtype=DOUBLE)))
    return inputs


def slope_has_one_number_for_each_sample(slope, x, y, w, b, v, c):
    """One slope for each input: a tensor of shape (N,)."""
    found = slope(x, y, w, b, v, c)
    if not isinstance(found, torch.Tensor):
        return f"it returned {type(found).__name__}, not a tensor"
    return None if found.shape == x.shape else f"its shape is {tuple(found.shape)}, wanted is {tuple(x.shape)}"


def slope_is_zero_for_a_network_that_ignores_its_input(slope, x, y, w, b, v, c):
    """Zero where all w are 0: the loss cannot depend on x."""
    found = slope(x, y, torch.zeros_like(w), b, v, c).abs().max().item()
    return None if found < 1e-12 else f"it is {found:.4g} there (which factor leads from s to x?)"


def slope_of_a_yes_and_of_a_no_point_in_opposite_directions(slope, x, y, w, b, v, c):
    """Opposite in sign for y = 0 and y = 1: what makes a yes dearer makes a no cheaper."""
    no, yes = (slope(x, torch.full_like(x, truth), w, b, v, c) for truth in (0.0, 1.0))
    return None if (no * yes <= 0).all() else f"it is {few(no)} for y = 0 and {few(yes)} for y = 1"


def slope_adds_up_over_the_paths(slope, x, y, w, b, v, c):
    """Unchanged when each neuron is split into two equal ones with half the output weight: all paths count."""
    once = slope(x, y, w, b, v, c)
    split = slope(x, y, torch.cat([w, w]), torch.cat([b, b]), torch.cat([v, v]) / 2, c)
    return None if torch.allclose(once, split, atol=1e-10) else f"it is {few(once)}, with split neurons {few(split)}"


def slope_says_which_way_the_loss_grows(slope, x, y, w, b, v, c):
    """Positive where a slightly larger x costs more, negative where it costs less."""
    found, wanted = slope(x, y, w, b, v, c), _by_autograd(x, y, w, b, v, c)
    return None if (found * wanted >= -1e-14).all() else f"it is {few(found)}, the loss grows at {few(wanted)}"


def slope_is_that_of_the_cross_entropy(slope, x, y, w, b, v, c):
    """Equal to what automatic differentiation finds for the cross-entropy of each sample."""
    found, wanted = slope(x, y, w, b, v, c), _by_autograd(x, y, w, b, v, c)
    return None if torch.allclose(found, wanted, atol=1e-10) else f"it is {few(found)}, wanted is {few(wanted)}"


def four_edges() -> list[tuple[torch.Tensor]]:
    """Return 300 times four edges in rising order, at many scales: an easy one first."""
    generator = torch.Generator().manual_seed(0)
    rows = [(torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=DOUBLE),)]
    for number in range(1, 300):
        scale = (1.0, 0.1, 10.0, 100.0)[number % 4]
        gaps = scale * (0.3 + torch.rand(4, generator=generator, dtype=DOUBLE))
        rows.append((gaps.cumsum(0) - 3 * scale * torch.rand((), generator=generator, dtype=DOUBLE),))
    return rows


def ranges_have_four_neurons(build, edges):
    """Three tensors of shape (4,) and a bias without shape: four neurons, no more."""
    shapes = [tuple(part.shape) for part in build(edges)]
    return None if shapes == [(4,), (4,), (4,), ()] else f"the shapes are {shapes}"


def ranges_say_no_far_away(build, edges):
    """No, below 0.05, far below the first edge and far above the last."""
    width = edges[-1] - edges[0]
    found = _answers(build(edges), torch.stack([edges[0] - width, edges[-1] + width]))
    return None if (found < 0.05).all() else f"p is {few(found)} there"


def ranges_say_yes_in_the_middle_of_each(build, edges):
    """Yes, above 0.95, in the middle of the first range and in the middle of the second."""
    found = _answers(build(edges), torch.stack([(edges[0] + edges[1]) / 2, (edges[2] + edges[3]) / 2]))
    return None if (found > 0.95).all() else f"p is {few(found)} there"


def ranges_say_no_between_them(build, edges):
    """No, below 0.05, halfway between the two ranges."""
    found = _answers(build(edges), ((edges[1] + edges[2]) / 2)[None])
    return None if (found < 0.05).all() else f"p is {few(found)} there"


def ranges_are_undecided_on_the_edges(build, edges):
    """One half, to within 0.01, on each of the four edges."""
    found = _answers(build(edges), edges)
    return None if ((found - 0.5).abs() < 0.01).all() else f"p is {few(found)} there"


def ranges_are_sharp(build, edges):
    """Above 0.95 inside and below 0.05 outside, a tenth of the smallest gap away from each edge."""
    near = edges.diff().min() / 10
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=DOUBLE)
    inside, outside = (_answers(build(edges), edges + side * near * signs) for side in (1, -1))
    if (inside > 0.95).all() and (outside < 0.05).all():
        return None
    return f"p is {few(inside)} inside and {few(outside)} outside (how steep for these gaps?)"


EXERCISES = (
    Exercise(
        "slope_in_input",
        networks_and_samples,
        (
            slope_has_one_number_for_each_sample,
            slope_is_zero_for_a_network_that_ignores_its_input,
            slope_of_a_yes_and_of_a_no_point_in_opposite_directions,
            slope_adds_up_over_the_paths,
            slope_says_which_way_the_loss_grows,
            slope_is_that_of_the_cross_entropy,
        ),
    ),
    Exercise(
        "two_ranges",
        four_edges,
        (
            ranges_have_four_neurons,
            ranges_say_no_far_away,
            ranges_say_yes_in_the_middle_of_each,
            ranges_say_no_between_them,
            ranges_are_undecided_on_the_edges,
            ranges_are_sharp,
        ),
    ),
)


def _by_autograd(x, y, w, b, v, c) -> torch.Tensor:
    point = x.clone().requires_grad_()
    logits = torch.sigmoid(point[:, None] * w + b) @ v + c
    loss = losses.binary_cross_entropy_with_logits(logits, y, reduction="sum")
    return torch.autograd.grad(loss, point)[0]


def _answers(network, x: torch.Tensor) -> torch.Tensor:
    w, b, v, c = network
    return torch.sigmoid(torch.sigmoid(x[:, None] * w + b) @ v + c)
