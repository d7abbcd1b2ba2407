"""What a model is worth on data: loss, accuracy, calibration."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lib.training.checks import check_count, check_data, check_model, check_rows, checked, describe


class Evaluation(NamedTuple):
    """The loss on a set of data, and the accuracy (None where the targets are no classes)."""

    loss: float
    accuracy: float | None


def evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: tuple[Tensor, Tensor],
    *,
    batch_size: int = 1000,
) -> Evaluation:
    """Return the loss and the accuracy of a model on data, in evaluation mode.

    The loss is taken once, of all outputs together: a mean over the samples is one whatever the batch size, weighted
    or with ignored targets, too.

    Args:
        model: is used where it lies and left in the mode in which it was.
        loss: from (output, target) to a scalar.
        data: inputs and targets, two tensors with one row for each sample.
        batch_size: samples that go through the model at a time.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if the data are empty or of unequal length, or the loss is no scalar.
    """
    check_data("data", data)
    outputs = predict(model, data[0], batch_size=batch_size)
    targets = data[1].to(outputs.device)
    with torch.no_grad():
        value = checked(loss)(outputs, targets).item()
    return Evaluation(value, accuracy(outputs, targets) if are_classes(outputs, targets) else None)


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Return the outputs of a model, in evaluation mode and without gradient, for any number of inputs.

    Args:
        model: is used where it lies and left in the mode in which it was.
        inputs: one row for each sample.
        batch_size: samples that go through the model at a time.

    Returns:
        One row for each sample, on the device of ``inputs``.

    Raises:
        TypeError: if ``model`` is no module or ``inputs`` no tensor.
        ValueError: if it has no rows, or ``batch_size`` is below 1.
    """
    check_model(model)
    check_rows("inputs", inputs)
    check_count("batch_size", batch_size, least=1)
    where = next(model.parameters(), inputs).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        outputs = [model(batch.to(where)) for batch in inputs.split(batch_size)]
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.cat(outputs).to(inputs.device)


def accuracy(output: Tensor, target: Tensor) -> float:
    """Return the share of the targets that are the class with the largest output.

    Args:
        output: a score for each class, shape (N, C) or (N, C, d1, ..., dK).
        target: class indices, integers, shape (N,) or (N, d1, ..., dK).

    Raises:
        ValueError: if the shapes do not fit, the target holds no integers, or there is none.
    """
    if not are_classes(output, target) or not target.numel():
        raise ValueError(
            "accuracy needs outputs of shape (N, C, ...) and integer targets of shape (N, ...), at least one; "
            f"got {describe(output)} and {describe(target)}"
        )
    return count_correct(output, target).item() / target.numel()


class CalibrationBins(NamedTuple):
    """Predictions sorted by how sure they are into bins of equal width; NaN where a bin is empty.

    Attributes:
        share: the share of all samples that falls into each bin, shape (bins,).
        confidence: the mean probability of the predicted class in each bin, shape (bins,).
        accuracy: the share of the samples of each bin that is right, shape (bins,).
    """

    share: Tensor
    confidence: Tensor
    accuracy: Tensor


def calibration_bins(probabilities: Tensor, target: Tensor, *, bins: int = 10) -> CalibrationBins:
    """Compare how sure a model is of its predictions with how often they are right.

    Args:
        probabilities: of the classes, in [0, 1], shape (N, C).
        target: class indices, integers, shape (N,).
        bins: the number of bins of equal width into which [0, 1] is cut; a bin holds its lower limit, the last one 1.

    Raises:
        TypeError: if ``bins`` is no integer.
        ValueError: if the shapes do not fit, a probability is outside [0, 1], or ``bins`` is below 1.

    Source: Guo, Pleiss, Sun, Weinberger (2017), https://arxiv.org/abs/1706.04599.
    """
    check_count("bins", bins, least=1)
    if probabilities.ndim != 2 or not are_classes(probabilities, target) or not target.numel():
        raise ValueError(
            "calibration needs probabilities of shape (N, C) and integer targets of shape (N,), at least one; "
            f"got {describe(probabilities)} and {describe(target)}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be in [0, 1]; are these logits? Then take their softmax first")
    confidence, prediction = probabilities.double().max(1)
    bin_of = (confidence * bins).long().clamp(max=bins - 1)

    def total(values):
        return torch.zeros(bins, dtype=torch.float64, device=values.device).index_add(0, bin_of, values)

    count = total(torch.ones_like(confidence))
    return CalibrationBins(
        share=count / len(target),
        confidence=total(confidence) / count,
        accuracy=total((prediction == target).double()) / count,
    )


def expected_calibration_error(probabilities: Tensor, target: Tensor, *, bins: int = 10) -> float:
    """Return the mean gap, over the samples, between how sure their bin is and how often it is right.

    ECE = sum over the bins of share * abs(accuracy - confidence), in [0, 1]. Arguments, errors and source as for
    ``calibration_bins``.
    """
    found = calibration_bins(probabilities, target, bins=bins)
    return (found.share * (found.accuracy - found.confidence).abs()).nansum().item()


def are_classes(output, target):
    """Tell whether the targets are class indices and the outputs a score for each class, in dimension 1."""
    integers = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    size = output.shape
    return integers and len(size) > 1 and (size[0], *size[2:]) == target.shape


def count_correct(output, target):
    return (output.argmax(1) == target).sum()
