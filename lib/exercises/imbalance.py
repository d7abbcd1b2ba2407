"""The exercises of the chapter on rare classes."""

import math

import torch

from lib import losses
from lib.exercises._answers import few, unlike_in_shape
from lib.exercises._engine import Exercise


def stated_probabilities() -> list[tuple[torch.Tensor, float]]:
    """Return 300 pairs of stated probabilities and a gamma, few and mild ones first."""
    generator = torch.Generator().manual_seed(2)
    pairs = []
    for number in range(300):
        logits = (1 + number // 100) * torch.randn(1 + number % 5, generator=generator, dtype=torch.float64)
        pairs.append((logits.clamp(-3, 3).sigmoid(), (2.0, 1.0, 5.0, 0.5, 3.0)[number % 5]))
    return pairs


def truth_has_the_shape_of_the_stated(truth, stated, gamma):
    """One probability for each stated one, in [0, 1]."""
    answer = truth(stated, gamma)
    wrong = unlike_in_shape(answer, stated.shape)
    if wrong or ((answer >= 0) & (answer <= 1)).all():
        return wrong
    return f"it returned {few(answer)}"


def truth_is_what_is_stated_without_focus(truth, stated, gamma):
    """What is stated where gamma is 0: that is cross-entropy, and honest."""
    answer = truth(stated, 0.0)
    return None if torch.allclose(answer, stated) else f"it returned {few(answer)}"


def truth_of_the_opposite_is_the_opposite(truth, stated, gamma):
    """1 - q for 1 - p: yes and no play the same part."""
    there, back = truth(stated, gamma), truth(1 - stated, gamma)
    if torch.allclose(there + back, torch.ones_like(there), atol=1e-7):
        return None
    return f"for p it is {few(there)}, for 1 - p {few(back)}"


def truth_is_surer_than_what_is_stated(truth, stated, gamma):
    """Farther from one half than what is stated, on the same side: focal loss states too little."""
    answer = truth(stated, gamma)
    if ((answer - 0.5) * (stated - 0.5).sign() >= (stated - 0.5).abs() - 1e-12).all():
        return None
    return f"it returned {few(answer)}"


def truth_makes_the_stated_cheapest(truth, stated, gamma):
    """The q for which the expected focal loss has slope 0 at the stated p."""
    q, z = truth(stated, gamma), torch.logit(stated).requires_grad_()
    if_yes, if_no = (
        losses.sigmoid_focal_loss(z, torch.full_like(z, y), gamma=gamma, alpha=None, reduction="none").sum()
        for y in (1.0, 0.0)
    )
    yes, no = (torch.autograd.grad(loss, z)[0] for loss in (if_yes, if_no))
    balance = ((q * yes + (1 - q) * no) / (q * yes.abs() + (1 - q) * no.abs())).abs().max().item()
    return None if balance < 1e-5 else f"the slopes of yes and no leave a share of {balance:.3f} uncancelled"


def bets() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of probabilities (N, C) and costs (C, K), few classes and decisions first."""
    generator = torch.Generator().manual_seed(3)
    pairs = []
    for number in range(300):
        classes, decisions = 2 + number % 3 + number // 100, 2 + number % 4
        logits = 2 * torch.randn(2 + number % 4, classes, generator=generator)
        costs = 10 * torch.rand(classes, decisions, generator=generator)
        pairs.append((logits.softmax(1), costs))
    return pairs


def decision_is_one_whole_number_for_each_row(decide, probabilities, costs):
    """One whole number for each row of probabilities: the index of a decision."""
    answer = decide(probabilities, costs)
    wrong = unlike_in_shape(answer, probabilities.shape[:1])
    if wrong or not (answer.is_floating_point() or answer.is_complex()):
        return wrong
    return f"its dtype is {answer.dtype}"


def decision_is_the_cheapest_for_a_known_class(decide, probabilities, costs):
    """Where the class is certain, the cheapest decision of that class's row of costs."""
    found, wanted = decide(torch.eye(len(costs)), costs).tolist(), costs.argmin(1).tolist()
    return None if found == wanted else f"for the certain classes 0, 1, ... it decides {found}, wanted is {wanted}"


def decision_is_the_likeliest_class_for_equal_prices(decide, probabilities, costs):
    """The most probable class, where every mistake costs 1 and a right answer nothing."""
    found = decide(probabilities, 1 - torch.eye(probabilities.shape[1])).tolist()
    wanted = probabilities.argmax(1).tolist()
    return None if found == wanted else f"it decides {found}, the most probable classes are {wanted}"


def decision_heeds_the_price_of_a_miss(decide, probabilities, costs):
    """At prices of 1 for a false alarm and 50 for a miss: an alarm from a probability of 1/51 on."""
    p = torch.tensor([0.015, 0.019, 0.0202, 0.3, 0.6])
    found = decide(torch.stack([1 - p, p], 1), torch.tensor([[0.0, 1.0], [50.0, 0.0]])).tolist()
    return None if found == [0, 0, 1, 1, 1] else f"for the probabilities {few(p)} of a yes it decides {found}"


def decision_costs_least_on_average(decide, probabilities, costs):
    """No other decision of the same row is cheaper on average."""
    rows = torch.arange(len(probabilities))
    expected = torch.stack([(probabilities * cost).sum(1) for cost in costs.T], 1)
    excess = (expected[rows, decide(probabilities, costs)] - expected.min(1).values).max().item()
    return None if excess < 1e-5 else f"a decision costs {excess:.3f} more than the cheapest of its row"


def counted_batches() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 triples of logits (N, C), labels (N,) and counts (C,), small batches and mild logits first."""
    generator = torch.Generator().manual_seed(4)
    triples = []
    for number in range(300):
        rows, classes = 2 + number % 4, 2 + number % 3 + number // 100
        logits = (1 + number // 60) * torch.randn(rows, classes, generator=generator)
        counts = torch.randint(1, (20, 500, 10_000)[number % 3], (classes,), generator=generator)
        triples.append((logits, torch.randint(classes, (rows,), generator=generator), counts))
    return triples


def adjusted_is_one_number(adjusted, logits, labels, counts):
    """One number for the whole batch."""
    return unlike_in_shape(adjusted(logits, labels, counts), ())


def adjusted_is_cross_entropy_for_equal_counts(adjusted, logits, labels, counts):
    """Cross-entropy where all classes are equally frequent."""
    found, wanted = adjusted(logits, labels, torch.full_like(counts, 7)), losses.cross_entropy(logits, labels)
    return _unequal(found, wanted)


def adjusted_knows_the_shares_without_logits(adjusted, logits, labels, counts):
    """For logits of 0, the mean of minus ln of the share of each label's class: the shares are built in."""
    shares = counts / counts.sum()
    return _unequal(adjusted(torch.zeros_like(logits), labels, counts), -shares.log()[labels].mean())


def adjusted_depends_on_ratios_only(adjusted, logits, labels, counts):
    """The same when all counts are ten times as large."""
    return _unequal(adjusted(logits, labels, 10 * counts), adjusted(logits, labels, counts))


def adjusted_is_the_mean_over_the_rows(adjusted, logits, labels, counts):
    """The loss of a batch is the mean of the losses of its rows, each taken alone."""
    rows = [adjusted(logits[i : i + 1], labels[i : i + 1], counts) for i in range(len(logits))]
    return _unequal(adjusted(logits, labels, counts), torch.stack(rows).mean())


def adjusted_gives_back_the_shift(adjusted, logits, labels, counts):
    """Cross-entropy of the logits, where ln of the counts was subtracted from these before."""
    return _unequal(adjusted(logits - counts.log(), labels, counts), losses.cross_entropy(logits, labels))


def adjusted_survives_large_logits(adjusted, logits, labels, counts):
    """Finite and right for logits in the thousands."""
    large = 1000 * logits
    return _unequal(adjusted(large, labels, counts), losses.cross_entropy(large + counts.log(), labels))


EXERCISES = (
    Exercise(
        "truth_behind_focal",
        stated_probabilities,
        (
            truth_has_the_shape_of_the_stated,
            truth_is_what_is_stated_without_focus,
            truth_of_the_opposite_is_the_opposite,
            truth_is_surer_than_what_is_stated,
            truth_makes_the_stated_cheapest,
        ),
    ),
    Exercise(
        "cheapest_decisions",
        bets,
        (
            decision_is_one_whole_number_for_each_row,
            decision_is_the_cheapest_for_a_known_class,
            decision_is_the_likeliest_class_for_equal_prices,
            decision_heeds_the_price_of_a_miss,
            decision_costs_least_on_average,
        ),
    ),
    Exercise(
        "logit_adjusted_cross_entropy",
        counted_batches,
        (
            adjusted_is_one_number,
            adjusted_is_cross_entropy_for_equal_counts,
            adjusted_knows_the_shares_without_logits,
            adjusted_depends_on_ratios_only,
            adjusted_is_the_mean_over_the_rows,
            adjusted_gives_back_the_shift,
            adjusted_survives_large_logits,
        ),
    ),
)


def _unequal(found: torch.Tensor, wanted: torch.Tensor) -> str | None:
    if math.isclose(found.item(), wanted.item(), rel_tol=1e-4, abs_tol=1e-5):
        return None
    return f"it is {found.item():.4f}, wanted is {wanted.item():.4f}"
