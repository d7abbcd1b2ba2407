"""The exercises of the MNIST part."""

import math

import torch

from lib import losses
from lib.exercises._answers import unlike_in_shape
from lib.exercises._engine import Exercise
from lib.training import expected_calibration_error


def batches_of_logits() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of logits (N, C) and labels (N,): small batches first, then wider ones and larger logits."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(300):
        rows, classes = 2 + number % 4 + number // 60, 3 + number % 3 + number // 75
        logits = torch.randn(rows, classes, generator=generator) * (1 + number % 5)
        pairs.append((logits, torch.randint(classes, (rows,), generator=generator)))
    return pairs


def smoothed_batches() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Return the batches of logits, each with a share of label smoothing between 0 and 1."""
    return [(logits, labels, number % 6 / 5) for number, (logits, labels) in enumerate(batches_of_logits())]


def gradient_has_the_shape_of_the_logits(gradient, logits, labels, smoothing):
    """One number for each logit: the gradient is a tensor of the shape of the logits."""
    return unlike_in_shape(gradient(logits, labels, smoothing), logits.shape)


def gradient_rows_sum_to_zero(gradient, logits, labels, smoothing):
    """Each row sums to zero: what one class gains in probability, the others lose."""
    worst = gradient(logits, labels, smoothing).sum(1).abs().max().item()
    if worst < 1e-5:
        return None
    return f"a row sums to {worst:.4f} (softmax over which axis? one target entry per row?)"


def gradient_descends_towards_the_true_class(gradient, logits, labels, smoothing):
    """Without smoothing, not positive at the true class, so that a step against it raises the true logit."""
    at_truth = gradient(logits, labels, 0.0).gather(1, labels[:, None])
    return None if (at_truth <= 0).all() else f"at a true class it is +{at_truth.max().item():.4f} (is the sign right?)"


def gradient_is_that_of_the_mean(gradient, logits, labels, smoothing):
    """The same batch twice over has half the gradient in each row, as the loss is a mean over the rows."""
    once = gradient(logits, labels, smoothing)
    twice = gradient(torch.cat([logits, logits]), torch.cat([labels, labels]), smoothing)
    if torch.allclose(twice[: len(once)], once / 2, atol=1e-6):
        return None
    return f"doubling the batch takes {once[0, 0].item():.4f} to {twice[0, 0].item():.4f} (what does a mean divide by?)"


def gradient_vanishes_where_the_prediction_is_the_target(gradient):
    """Zero where softmax gives the smoothed target itself: with smoothing 0.5 and 2 classes, at odds of 3 to 1."""
    slope = gradient(torch.tensor([[math.log(3), 0.0]]), torch.tensor([0]), 0.5)
    worst = slope.abs().max().item()
    return (
        None
        if worst < 1e-6
        else f"there it is {worst:.4f} (the share is spread over all classes, the true one included)"
    )


def gradient_predicts_the_change_of_the_loss(gradient, logits, labels, smoothing):
    """A small step d changes the loss by the gradient times d."""
    step = 1e-4 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ahead, behind = (
        losses.cross_entropy(logits.double() + side * step, labels, label_smoothing=smoothing) for side in (1, -1)
    )
    change, predicted = ahead - behind, 2 * (gradient(logits, labels, smoothing).double() * step).sum()
    if torch.isclose(change, predicted, rtol=1e-3, atol=1e-9):
        return None
    ratio = (change / predicted).item()
    return f"the loss changed {ratio:.3f} times as much as the gradient says (divided by the rows, or by all entries?)"


def gradient_survives_large_logits(gradient, logits, labels, smoothing):
    """Right also where the logits are in the thousands: softmax is then all but 1 at the largest and 0 elsewhere."""
    large = (1000 * logits).requires_grad_()
    (wanted,) = torch.autograd.grad(losses.cross_entropy(large, labels, label_smoothing=smoothing), large)
    if torch.allclose(gradient(large.detach(), labels, smoothing), wanted, atol=1e-3):  # logits lose their decimals
        return None
    return "with the logits below times 1000 it is wrong or not finite (what does exp(1000) do?)"


def loss_is_one_number(loss, logits, labels):
    """One number for the whole batch."""
    return unlike_in_shape(loss(logits, labels), ())


def loss_is_never_negative(loss, logits, labels):
    """Never negative: no probability is above 1."""
    value = loss(logits, labels).item()
    return None if value >= -1e-6 else f"the loss is {value:.4f} (is the sign right? is every shift in both terms?)"


def loss_of_indifference_is_log_of_the_classes(loss, logits, labels):
    """The natural log of C when all C logits are equal, however many rows there are."""
    value, wanted = loss(torch.zeros_like(logits), labels).item(), math.log(logits.shape[1])
    if abs(value - wanted) < 1e-4:
        return None
    rows, classes = logits.shape
    return f"for {classes} equal logits in {rows} rows ln C is {wanted:.4f}, but the loss is {value:.4f}"


def loss_is_the_mean_over_the_rows(loss, logits, labels):
    """The loss of a batch is the mean of the losses of its rows, each taken alone."""
    rows = [loss(logits[i : i + 1], labels[i : i + 1]).item() for i in range(len(logits))]
    value, mean = loss(logits, labels).item(), sum(rows) / len(rows)
    if math.isclose(value, mean, rel_tol=1e-4, abs_tol=1e-6):
        return None
    return f"the mean over the rows is {mean:.4f}, the loss of the batch {value:.4f} (which axis? one entry per row?)"


def loss_ignores_a_shift(loss, logits, labels):
    """Unchanged when the same number is added to all logits of a row, be it in the thousands."""
    value, shifted = loss(logits, labels).item(), loss(logits + 3000, labels).item()
    if math.isclose(value, shifted, rel_tol=1e-2, abs_tol=1e-2):  # 3000 leaves float32 about four decimals
        return None
    return f"the loss goes from {value:.4f} to {shifted} when 3000 is added (what does exp(3000) do?)"


def loss_is_minus_log_of_the_probability(loss, logits, labels):
    """The exponential of minus the loss of one row is the probability that its softmax gives to its label."""
    from_loss = math.exp(-loss(logits[:1], labels[:1]).item())
    wanted = logits[0].double().softmax(0)[labels[0]].item()
    if math.isclose(from_loss, wanted, rel_tol=1e-3, abs_tol=1e-6):
        return None
    return f"the probability is {wanted:.4f}, the loss corresponds to {from_loss:.4f}"


def loss_survives_a_confident_mistake(loss, logits, labels):
    """Finite also where the logits are in the thousands and the label is wrong: such a row costs about their gap."""
    wrong = logits.argmin(1)
    value = loss(1000 * logits, wrong).item()
    wanted = 1000 * (logits.amax(1) - logits.amin(1)).mean().item()
    if math.isclose(value, wanted, rel_tol=1e-2):
        return None
    return (
        f"the mean gap is {wanted:.1f}, the loss {value} (log of a probability that rounds to 0? maximum of each row?)"
    )


def predictions_with_known_calibration() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return 300 pairs of probabilities (N, C) and labels (N,), from over-confident to under-confident."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(300):
        rows, classes = 12 + number % 7 + number // 10, 3 + number % 4
        logits = torch.randn(rows, classes, generator=generator) * (0.5 + number % 6)
        labels = torch.multinomial((logits / (0.5 + number % 3)).softmax(1), 1, generator=generator).squeeze(1)
        pairs.append((logits.softmax(1), labels))
    return pairs


def error_is_a_share(error, probabilities, labels):
    """One number between 0 and 1."""
    answer = error(probabilities, labels)
    value = float(answer)
    if math.isnan(value):
        return "the error is NaN (an empty bin has no mean: skip it)"
    return None if -1e-6 <= value <= 1 + 1e-6 else f"the error is {value:.4f} (sign? divided by what?)"


def error_of_certainty_that_is_wrong_is_one(error, probabilities, labels):
    """1 for a model that is certain and wrong every time, 0 for one that is certain and right every time."""
    classes = probabilities.shape[1]
    certain = torch.nn.functional.one_hot(labels, classes).to(probabilities.dtype)
    right, wrong = float(error(certain, labels)), float(error(certain, (labels + 1) % classes))
    if abs(right) < 1e-5 and abs(wrong - 1) < 1e-5:
        return None
    return f"it is {wrong:.4f} when wrong, {right:.4f} when right (has a probability of 1 a bin? is it the winner's?)"


def error_does_not_let_bins_cancel(error):
    """No bin makes up for another: over-confidence in one and under-confidence in its neighbour do not cancel."""
    both = torch.tensor([[0.95, 0.05, 0.0], [0.95, 0.05, 0.0], [0.85, 0.1, 0.05], [0.85, 0.1, 0.05]])
    value = float(error(both, torch.tensor([0, 1, 0, 0])))
    if abs(value - 0.3) < 1e-5:
        return None
    return (
        f"2 at p = 0.95, one right, and 2 at p = 0.85, both right: the gaps are 0.45 and 0.15, the error is {value:.4f}"
    )


def error_weighs_bins_by_their_size(error):
    """A bin counts by its share of the samples: ten copies of one sample weigh ten times one."""
    lopsided = torch.tensor([[0.95, 0.05]] * 10 + [[0.55, 0.45]])
    value = float(error(lopsided, torch.tensor([0] * 10 + [1])))
    wanted = (10 * 0.05 + 1 * 0.55) / 11
    if abs(value - wanted) < 1e-5:
        return None
    return f"10 samples with a gap of 0.05 and 1 with 0.55 should give {wanted:.4f}, got {value:.4f}"


def error_looks_at_the_winning_class(error, probabilities, labels):
    """Only the winning class of each row and its probability count: shuffling the losers changes nothing."""
    winner = probabilities.argmax(1, keepdim=True)
    losers = (1 - probabilities.gather(1, winner)) / (probabilities.shape[1] - 1)
    levelled = losers.expand_as(probabilities).scatter(1, winner, probabilities.gather(1, winner))
    value, same = float(error(probabilities, labels)), float(error(levelled, labels))
    return None if abs(value - same) < 1e-4 else f"the error goes from {value:.4f} to {same:.4f}"


def error_has_ten_bins_of_equal_width(error, probabilities, labels):
    """The weighted sum of the gaps of ten bins, each 0.1 wide."""
    value = float(error(probabilities, labels))
    wanted = expected_calibration_error(probabilities, labels)
    if abs(value - wanted) < 1e-4:
        return None
    return f"on the input below it is off by {abs(value - wanted):.4f} (are the bins 0 to 0.1, 0.1 to 0.2, ...?)"


EXERCISES = (
    Exercise(
        "smoothed_cross_entropy_gradient",
        smoothed_batches,
        (
            gradient_has_the_shape_of_the_logits,
            gradient_rows_sum_to_zero,
            gradient_descends_towards_the_true_class,
            gradient_is_that_of_the_mean,
            gradient_vanishes_where_the_prediction_is_the_target,
            gradient_predicts_the_change_of_the_loss,
            gradient_survives_large_logits,
        ),
    ),
    Exercise(
        "cross_entropy_from_logits",
        batches_of_logits,
        (
            loss_is_one_number,
            loss_is_never_negative,
            loss_of_indifference_is_log_of_the_classes,
            loss_is_the_mean_over_the_rows,
            loss_is_minus_log_of_the_probability,
            loss_ignores_a_shift,
            loss_survives_a_confident_mistake,
        ),
    ),
    Exercise(
        "calibration_error",
        predictions_with_known_calibration,
        (
            error_is_a_share,
            error_of_certainty_that_is_wrong_is_one,
            error_does_not_let_bins_cancel,
            error_weighs_bins_by_their_size,
            error_looks_at_the_winning_class,
            error_has_ten_bins_of_equal_width,
        ),
    ),
)
