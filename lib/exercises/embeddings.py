"""The exercises of the chapter on embeddings."""

import torch

from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def triplets_and_margins() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]:
    """Return 300 batches of triplets with their margins; easy and hard negatives in each of the larger ones."""
    generator = torch.Generator().manual_seed(0)
    near, far = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double(), torch.tensor([[1.5, 0.0], [0.2, 0.0]]).double()
    batches = [(torch.zeros(2, 2).double(), near, far, 1.0)]
    for number in range(1, 300):
        shape = ((3, 2), (4, 3), (1, 2), (6, 5))[number % 4]
        points = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
        batches.append((*points, (1.0, 0.2, 3.0)[number % 3]))
    return batches


def gradient_has_the_shape_of_the_anchors(gradient, anchor, positive, negative, margin):
    """One slope for each component of each anchor: a tensor of the shape of the anchors."""
    return unlike_in_shape(gradient(anchor, positive, negative, margin), anchor.shape)


def gradient_is_nothing_for_easy_negatives(gradient, anchor, positive, negative, margin):
    """Zero for a triplet whose negative is farther away than the positive by the margin, in squared distances."""
    away = anchor + 10 * (1 + margin + (anchor - positive).norm(dim=1, keepdim=True))
    worst = gradient(anchor, positive, away, margin).abs().max().item()
    return None if worst < 1e-12 else f"with negatives that are far away it reaches {worst:.4f}"


def gradient_step_goes_towards_the_positive(gradient, anchor, positive, negative, margin):
    """A small step against it lowers the loss wherever there is one."""
    before = _squared_triplet_loss(anchor, positive, negative, margin)
    slopes = gradient(anchor, positive, negative, margin)
    if before == 0 or slopes.abs().max() == 0:
        return None
    after = _squared_triplet_loss(anchor - 1e-6 * slopes / slopes.norm(), positive, negative, margin)
    return None if after < before else f"the loss goes from {before:.8f} to {after:.8f} (towards the negative?)"


def gradient_does_not_depend_on_where_the_anchor_is(gradient, anchor, positive, negative, margin):
    """The same for every place of the anchor at which the triplets all cost something."""
    here = gradient(anchor, positive, negative, 1e6)
    there = gradient(anchor + 1, positive, negative, 1e6)
    return None if torch.allclose(here, there) else f"it goes from {few(here)} to {few(there)} when the anchor moves"


def gradient_of_a_batch_is_that_of_its_mean(gradient, anchor, positive, negative, margin):
    """Half as large for every triplet when the batch is doubled: the loss is a mean over the triplets."""
    once = gradient(anchor, positive, negative, margin)
    twice = gradient(*(torch.cat([x, x]) for x in (anchor, positive, negative)), margin)[: len(anchor)]
    return None if torch.allclose(2 * twice, once) else f"it goes from {few(once)} to {few(twice)}"


def gradient_is_the_derivative_of_the_loss(gradient, anchor, positive, negative, margin):
    """Equal to what automatic differentiation finds."""
    point = anchor.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(_squared_triplet_loss(point, positive, negative, margin), point)
    found = gradient(anchor, positive, negative, margin)
    return None if torch.allclose(found, wanted) else f"it is {few(found)}, wanted is {few(wanted)}"


def distances_and_rivals() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 tables of distances, with the distances to the positives and who is a rival of whom."""
    generator = torch.Generator().manual_seed(0)
    distances = torch.tensor([[0.5, 0.3, 0.9, 0.7], [0.2, 0.6, 0.4, 0.1]]).double()
    rivals = torch.tensor([[False, True, True, True], [True, False, True, True]])
    tables = [(distances, torch.tensor([0.5, 0.6]).double(), rivals)]
    for number in range(1, 300):
        anchors, candidates = ((3, 4), (5, 5), (1, 6), (4, 9))[number % 4]
        distances = 2 * torch.rand(anchors, candidates, generator=generator, dtype=torch.float64)
        own = torch.randint(candidates, (anchors,), generator=generator)
        rivals = torch.rand(anchors, candidates, generator=generator) < 0.7
        rivals[torch.arange(anchors), own] = False
        rivals[torch.arange(anchors), (own + 1) % candidates] = True  # there is at least one
        tables.append((distances, distances[torch.arange(anchors), own], rivals))
    return tables


def choice_is_one_place_for_each_anchor(choose, distances, positive, rivals):
    """One integer for each anchor: the column of its negative, shape (N,)."""
    found = choose(distances, positive, rivals)
    if not isinstance(found, torch.Tensor) or found.is_floating_point():
        return f"it returned {getattr(found, 'dtype', type(found).__name__)}, wanted are integers in a tensor"
    return unlike_in_shape(found, positive.shape)


def choice_is_always_a_rival(choose, distances, positive, rivals):
    """Never a candidate of the anchor's own class, and never the anchor itself."""
    found = choose(distances, positive, rivals)
    if found.min() < 0 or found.max() >= distances.shape[1]:
        return f"it chooses {found.tolist()}, the columns end at {distances.shape[1] - 1}"
    own = ~rivals[torch.arange(len(found)), found]
    return f"anchor {own.nonzero()[0].item()} gets one that is no rival" if own.any() else None


def choice_is_farther_than_the_positive_where_it_can_be(choose, distances, positive, rivals):
    """Farther away than the positive, for each anchor that has such a rival."""
    found = choose(distances, positive, rivals)
    possible = ((distances > positive[:, None]) & rivals).any(1)
    wrong = possible & (_at(distances, found) <= positive)
    return f"anchor {wrong.nonzero()[0].item()} gets one that is nearer than its positive" if wrong.any() else None


def choice_is_the_nearest_of_these(choose, distances, positive, rivals):
    """The nearest of the rivals that are farther away than the positive."""
    found = choose(distances, positive, rivals)
    semi_hard = (distances > positive[:, None]) & rivals
    nearest = distances.masked_fill(~semi_hard, torch.inf).min(1).values
    wrong = semi_hard.any(1) & (_at(distances, found) != nearest)
    return f"anchor {wrong.nonzero()[0].item()} has a nearer one" if wrong.any() else None


def choice_is_the_farthest_where_all_are_nearer(choose, distances, positive, rivals):
    """The farthest rival, for an anchor whose rivals are all nearer than the positive."""
    beyond = torch.full_like(positive, 10.0)
    found = choose(distances, beyond, rivals)
    farthest = distances.masked_fill(~rivals, -torch.inf).max(1).values
    wrong = _at(distances, found) != farthest
    return f"with positives at 10, anchor {wrong.nonzero()[0].item()} has a farther one" if wrong.any() else None


EXERCISES = (
    Exercise(
        "squared_triplet_gradient",
        triplets_and_margins,
        (
            gradient_has_the_shape_of_the_anchors,
            gradient_is_nothing_for_easy_negatives,
            gradient_step_goes_towards_the_positive,
            gradient_does_not_depend_on_where_the_anchor_is,
            gradient_of_a_batch_is_that_of_its_mean,
            gradient_is_the_derivative_of_the_loss,
        ),
    ),
    Exercise(
        "semi_hard_negatives",
        distances_and_rivals,
        (
            choice_is_one_place_for_each_anchor,
            choice_is_always_a_rival,
            choice_is_farther_than_the_positive_where_it_can_be,
            choice_is_the_nearest_of_these,
            choice_is_the_farthest_where_all_are_nearer,
        ),
    ),
)


def _squared_triplet_loss(anchor, positive, negative, margin):
    near, far = ((anchor - x).square().sum(1) for x in (positive, negative))
    return (margin + near - far).clamp(min=0).mean()


def _at(distances, found):
    return distances[torch.arange(len(found)), found]
