"""The exercises of the chapter on wrong labels and rare classes."""

import math

import torch

from lib import losses
from lib.data.corruption import transition
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def classes_and_exponents() -> list[tuple[int, float]]:
    """Return 300 pairs of a number of classes and an exponent q in (0, 1], few classes first."""
    exponents = (1.0, 0.5, 0.7, 0.25, 0.9, 0.1)
    return [(2 + number // 6, exponents[number % 6]) for number in range(300)]


def sums_over_the_classes(classes: int, q: float, rows: int = 200) -> torch.Tensor:
    """Return what the losses of all classes add up to, for many predictions between even and certain."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    logits *= torch.linspace(0, 30, rows, dtype=torch.float64)[:, None]
    logits[-1, 0] = 1000  # certain
    labels = torch.arange(classes)
    each = losses.generalized_cross_entropy(
        logits.repeat_interleave(classes, 0), labels.repeat(rows), q=q, reduction="none"
    )
    return each.reshape(rows, classes).sum(1)


def range_is_two_numbers_in_order(limits, classes, q):
    """Two numbers, the smaller one first."""
    answer = limits(classes, q)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return f"it returned {answer}"
    low, high = map(float, answer)
    return None if low <= high + 1e-9 else f"the first is {low:.4f}, the second {high:.4f}"


def range_is_a_point_for_the_absolute_error(limits, classes, q):
    """C - 1 twice for q = 1: there the sum does not depend on the prediction."""
    low, high = map(float, limits(classes, 1.0))
    return None if _close(low, classes - 1) and _close(high, classes - 1) else f"it is {low:.4f} to {high:.4f}"


def range_ends_at_the_even_and_the_certain_prediction(limits, classes, q):
    """The sums for equal logits and for a certain prediction are its ends."""
    found, sums = sorted(map(float, limits(classes, q))), sums_over_the_classes(classes, q)
    wanted = sorted([sums[0].item(), sums[-1].item()])
    if all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(found, wanted, strict=True)):
        return None
    return f"it is {found[0]:.4f} to {found[1]:.4f}; the two sums are {wanted[0]:.4f} and {wanted[1]:.4f}"


def range_holds_every_prediction(limits, classes, q):
    """No prediction has a sum outside it."""
    (low, high), sums = map(float, limits(classes, q)), sums_over_the_classes(classes, q)
    outside = sums[(sums < low - 1e-6) | (sums > high + 1e-6)]
    return f"a prediction has the sum {outside[0]:.4f}, outside {low:.4f} to {high:.4f}" if len(outside) else None


def noisy_batches() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 triples of logits (N, C), labels (N,) and a transition matrix (C, C), small and mild ones first."""
    generator = torch.Generator().manual_seed(6)
    triples = []
    for number in range(300):
        rows, classes = 2 + number % 4, 3 + number % 3 + number // 100
        logits = (1 + number // 60) * torch.randn(rows, classes, generator=generator)
        matrix = 0.6 * torch.eye(classes) + 0.4 * torch.rand(classes, classes, generator=generator).softmax(1)
        if number % 3 == 0:  # some flips are impossible
            matrix = transition("pairwise", 0.3, classes=classes).float()
        triples.append((logits, torch.randint(classes, (rows,), generator=generator), matrix))
    return triples


def forward_is_one_number(forward, logits, labels, transition):
    """One number for the whole batch."""
    return unlike_in_shape(forward(logits, labels, transition), ())


def forward_is_cross_entropy_without_noise(forward, logits, labels, transition):
    """Cross-entropy, where the matrix says that no label is flipped."""
    found = forward(logits, labels, torch.eye(len(transition)))
    return _unequal(found, losses.cross_entropy(logits, labels))


def forward_knows_what_a_certain_truth_is_labelled(forward, logits, labels, transition):
    """Minus ln of the entry in the row of the truth and the column of the label, where the truth is certain."""
    certain = torch.full_like(logits, -60.0)
    truth = (labels + 1) % logits.shape[1]
    matrix = (0.9 * transition + 0.1 / len(transition)) if (transition == 0).any() else transition
    certain[torch.arange(len(labels)), truth] = 60.0
    return _unequal(forward(certain, labels, matrix), -matrix[truth, labels].log().mean())


def forward_is_the_mean_over_the_rows(forward, logits, labels, transition):
    """The loss of a batch is the mean of the losses of its rows, each taken alone."""
    rows = [forward(logits[i : i + 1], labels[i : i + 1], transition) for i in range(len(logits))]
    return _unequal(forward(logits, labels, transition), torch.stack(rows).mean())


def forward_charges_what_the_label_is_given(forward, logits, labels, transition):
    """Minus ln of the probability that the label, right or wrong, will be the one that is seen."""
    said = (logits.double().softmax(1)[:, :, None] * transition.double()).sum(1)
    return _unequal(forward(logits, labels, transition), -said[torch.arange(len(labels)), labels].log().mean())


def noisy_and_rare() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Return 300 triples: probabilities of labels (N, C), shares of the labels (C,), and the rate of flips."""
    generator = torch.Generator().manual_seed(8)
    triples = []
    for number in range(300):
        rows, classes = 2 + number % 4, 3 + number % 3 + number // 100
        truth = (2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(1)
        shares = (1.5 * torch.randn(classes, generator=generator, dtype=torch.float64)).softmax(0)
        rate = (0.2, 0.4, 0.1, 0.5)[number % 4]
        matrix = transition("symmetric", rate, classes=classes)
        triples.append((truth @ matrix, shares @ matrix, rate))
    return triples


def decision_is_one_whole_number_for_each_row(decide, probabilities, label_shares, rate):
    """One whole number for each row: the index of a class."""
    answer = decide(probabilities, label_shares, rate)
    wrong = unlike_in_shape(answer, probabilities.shape[:1])
    if wrong or not (answer.is_floating_point() or answer.is_complex()):
        return wrong
    return f"its dtype is {answer.dtype}"


def decision_divides_by_the_shares_without_noise(decide, probabilities, label_shares, rate):
    """Without noise, the class whose probability is most times its share."""
    found = decide(probabilities, label_shares, 0.0).tolist()
    wanted = (probabilities / label_shares).argmax(1).tolist()
    return None if found == wanted else f"it decides {found}, wanted is {wanted}"


def decision_is_the_likeliest_label_for_equal_shares(decide, probabilities, label_shares, rate):
    """The most probable label, where all labels are equally common, whatever the noise."""
    even = torch.full_like(label_shares, 1 / len(label_shares))
    found, wanted = decide(probabilities, even, rate).tolist(), probabilities.argmax(1).tolist()
    return None if found == wanted else f"it decides {found}, the most probable labels are {wanted}"


def decision_undoes_noise_and_rarity(decide, probabilities, label_shares, rate):
    """The class whose true probability is most times its true share, both worked out backwards from the labels'."""
    undo = torch.linalg.inv(transition("symmetric", rate, classes=len(label_shares)))
    truth, shares = probabilities @ undo, label_shares @ undo
    found, wanted = decide(probabilities, label_shares, rate).tolist(), (truth / shares).argmax(1).tolist()
    if found == wanted:
        return None
    return f"it decides {found}, wanted is {wanted} (the true shares are {few(shares)})"


EXERCISES = (
    Exercise(
        "class_sum_range",
        classes_and_exponents,
        (
            range_is_two_numbers_in_order,
            range_is_a_point_for_the_absolute_error,
            range_ends_at_the_even_and_the_certain_prediction,
            range_holds_every_prediction,
        ),
    ),
    Exercise(
        "forward_corrected_cross_entropy",
        noisy_batches,
        (
            forward_is_one_number,
            forward_is_cross_entropy_without_noise,
            forward_knows_what_a_certain_truth_is_labelled,
            forward_is_the_mean_over_the_rows,
            forward_charges_what_the_label_is_given,
        ),
    ),
    Exercise(
        "balanced_decisions",
        noisy_and_rare,
        (
            decision_is_one_whole_number_for_each_row,
            decision_divides_by_the_shares_without_noise,
            decision_is_the_likeliest_label_for_equal_shares,
            decision_undoes_noise_and_rarity,
        ),
    ),
)


def _close(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=1e-6)


def _unequal(found: torch.Tensor, wanted: torch.Tensor) -> str | None:
    if math.isclose(found.item(), wanted.item(), rel_tol=1e-4, abs_tol=1e-5):
        return None
    return f"it is {found.item():.4f}, wanted is {wanted.item():.4f}"
