"""The exercises of the chapter on classification."""

import math

import torch

from lib import losses
from lib.exercises._answers import unlike_in_shape
from lib.exercises._engine import Exercise


def tempered_batches() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Return 300 triples of logits (N, C), labels (N,) and a temperature, small batches and mild logits first."""
    generator = torch.Generator().manual_seed(1)
    triples = []
    for number in range(300):
        rows, classes = 2 + number % 4 + number // 60, 3 + number % 3 + number // 75
        logits = torch.randn(rows, classes, generator=generator) * (1 + number % 4)
        labels = torch.randint(classes, (rows,), generator=generator)
        triples.append((logits, labels, (1.0, 2.0, 0.5, 4.0, 1.5)[number % 5]))
    return triples


def slope_is_one_number(slope, logits, labels, temperature):
    """One number for the whole batch."""
    return unlike_in_shape(slope(logits, labels, temperature), ())


def slope_is_zero_for_equal_logits(slope, logits, labels, temperature):
    """Zero where all logits of a row are equal: no temperature makes them unequal."""
    value = slope(torch.ones_like(logits), labels, temperature).item()
    if abs(value) < 1e-6:
        return None
    return f"for rows of ones it is {value:.4f} (is the mean of a row taken under its own probabilities?)"


def slope_cools_what_is_right(slope, logits, labels, temperature):
    """Not negative where every label has the largest logit of its row: more warmth makes a right model pay more."""
    value = slope(logits, logits.argmax(1), temperature).item()
    return None if value >= -1e-6 else f"there it is {value:.4f} (is the sign right?)"


def slope_is_the_mean_over_the_rows(slope, logits, labels, temperature):
    """The slope of a batch is the mean of the slopes of its rows, each taken alone."""
    rows = [slope(logits[i : i + 1], labels[i : i + 1], temperature).item() for i in range(len(logits))]
    value, mean = slope(logits, labels, temperature).item(), sum(rows) / len(rows)
    if math.isclose(value, mean, rel_tol=1e-3, abs_tol=1e-5):
        return None
    return f"the mean over the rows is {mean:.4f}, the slope of the batch {value:.4f} (softmax over which axis?)"


def slope_predicts_the_change_of_the_loss(slope, logits, labels, temperature):
    """A small step in the temperature changes the mean loss by the slope times the step."""
    ahead, behind = (
        losses.cross_entropy(logits.double() / (temperature + side * 1e-4), labels).item() for side in (1, -1)
    )
    measured, told = (ahead - behind) / 2e-4, slope(logits, labels, temperature).item()
    if math.isclose(measured, told, rel_tol=1e-3, abs_tol=1e-4):
        return None
    return f"measured {measured:.4f}, told {told:.4f} (which power of the temperature? tempered probabilities?)"


def slope_survives_a_shift(slope, logits, labels, temperature):
    """Unchanged when the same number is added to all logits of a row, be it in the thousands."""
    logits = logits.double()
    value, shifted = (slope(z, labels, temperature).item() for z in (logits, logits + 5000))
    if math.isclose(value, shifted, rel_tol=1e-6, abs_tol=1e-6):
        return None
    return f"it goes from {value:.4f} to {shifted:.4f} when 5000 is added (what does exp do to that?)"


def models_in_two_places() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return 300 times logits (N, C), class weights, old shares and new shares (C,)."""
    generator = torch.Generator().manual_seed(2)
    quadruples = []
    for number in range(300):
        rows, classes = 2 + number % 3 + number // 75, 2 + number % 4
        logits = torch.randn(rows, classes, generator=generator) * (1 + number % 4)
        weight = 0.5 + 4 * torch.rand(classes, generator=generator)
        old, new = 0.1 + torch.rand(2, classes, generator=generator)
        quadruples.append((logits, weight, old / old.sum(), new / new.sum()))
    return quadruples


def answer_has_the_shape_of_the_logits(answer, logits, weight, old_share, new_share):
    """One number for each logit: a tensor of the shape of the logits."""
    return unlike_in_shape(answer(logits, weight, old_share, new_share), logits.shape)


def answer_rows_sum_to_one(answer, logits, weight, old_share, new_share):
    """Each row sums to one, as probabilities do."""
    worst = (answer(logits, weight, old_share, new_share).sum(1) - 1).abs().max().item()
    return None if worst < 1e-4 else f"a row misses 1 by {worst:.4f} (softmax over which axis? normalised at the end?)"


def answer_is_softmax_where_nothing_changed(answer, logits, weight, old_share, new_share):
    """The softmax of the logits where all weights are equal and the shares stay as they were."""
    found = answer(logits, torch.full_like(weight, 3.0), old_share, old_share)
    worst = (found - logits.softmax(1)).abs().max().item()
    return None if worst < 1e-4 else f"there it is off by {worst:.4f}"


def answer_undoes_the_weights(answer):
    """With equal logits, even shares and weights 1 and 9, the odds are 9 to 1: the weight had raised the second."""
    even = torch.tensor([0.5, 0.5])
    found = answer(torch.zeros(1, 2), torch.tensor([1.0, 9.0]), even, even)[0].tolist()
    if abs(found[0] - 0.9) < 1e-4:
        return None
    return f"the probabilities are {found[0]:.3f} and {found[1]:.3f}, wanted are 0.9 and 0.1"


def answer_follows_the_shares(answer):
    """With equal logits and weights, a class whose share grows from 0.5 to 0.8 gets the probability 0.8."""
    even, uneven = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])
    found = answer(torch.zeros(1, 2), torch.ones(2), even, uneven)[0].tolist()
    if abs(found[0] - 0.8) < 1e-4:
        return None
    return f"the probabilities are {found[0]:.3f} and {found[1]:.3f}, wanted are 0.8 and 0.2"


def answer_forgets_the_old_shares(answer):
    """With equal logits and weights, a class whose share falls from 0.8 to 0.5 gets the probability 0.2."""
    even, uneven = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2])
    found = answer(torch.zeros(1, 2), torch.ones(2), uneven, even)[0].tolist()
    if abs(found[0] - 0.2) < 1e-4:
        return None
    return f"the probabilities are {found[0]:.3f} and {found[1]:.3f}, wanted are 0.2 and 0.8"


def answer_needs_no_correction_for_fitting_weights(answer, logits, weight, old_share, new_share):
    """The softmax of the logits where each weight is the new share divided by the old: both corrections cancel."""
    worst = (answer(logits, new_share / old_share, old_share, new_share) - logits.softmax(1)).abs().max().item()
    return None if worst < 1e-4 else f"there it is off by {worst:.4f} (which correction divides, which multiplies?)"


def answer_is_bayes_rule(answer, logits, weight, old_share, new_share):
    """Ratios of two classes change by the factor new / (weight * old), that of the one class over that of the other."""
    before, after = logits.double().log_softmax(1), answer(logits, weight, old_share, new_share).double().log()
    factor = (new_share / (weight * old_share)).double().log()
    gained = (after - before) - (after - before)[:, :1]
    worst = (gained - (factor - factor[0])).abs().max().item()
    return None if worst < 1e-3 else f"a log-ratio is off by {worst:.4f}"


def answer_survives_large_logits(answer, logits, weight, old_share, new_share):
    """Right also where thousands are added to the logits of a row: only their differences count."""
    found, wanted = (answer(z, weight, old_share, new_share) for z in (logits.double() + 5000, logits.double()))
    if torch.allclose(found, wanted, atol=1e-6):
        return None
    return "with 5000 added to the logits it is wrong or not finite (what does exp(5000) do?)"


EXERCISES = (
    Exercise(
        "temperature_slope",
        tempered_batches,
        (
            slope_is_one_number,
            slope_is_zero_for_equal_logits,
            slope_cools_what_is_right,
            slope_is_the_mean_over_the_rows,
            slope_predicts_the_change_of_the_loss,
            slope_survives_a_shift,
        ),
    ),
    Exercise(
        "probabilities_elsewhere",
        models_in_two_places,
        (
            answer_has_the_shape_of_the_logits,
            answer_rows_sum_to_one,
            answer_is_softmax_where_nothing_changed,
            answer_undoes_the_weights,
            answer_follows_the_shares,
            answer_forgets_the_old_shares,
            answer_needs_no_correction_for_fitting_weights,
            answer_is_bayes_rule,
            answer_survives_large_logits,
        ),
    ),
)
