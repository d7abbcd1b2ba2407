"""Losses for choosing one class among several."""

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_class_indices,
    check_floating,
    check_reduction,
    softplus,
    working_precision,
)


def cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    r"""Cross-entropy between the softmax of the logits and the target.

    For logits :math:`z` and the true class :math:`y`, the loss is the negative log of the probability that softmax
    gives to :math:`y`:

    .. math:: \ell = -\log\frac{e^{z_y}}{\sum_j e^{z_j}} = \log\Bigl(1 + \sum_{j \ne y} e^{z_j - z_y}\Bigr),
              \qquad \frac{\partial\ell}{\partial z_j} = \operatorname{softmax}(z)_j - [j = y].

    For class indices the right-hand form is the one computed: only differences of logits enter it, and a confident
    right answer keeps its small loss instead of rounding to 0.

    Args:
        input: logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: class indices in [0, C), an integer tensor of the shape of ``input`` without C; or class
            probabilities, a floating-point tensor of the shape of ``input``.
        weight: a factor for each class, shape (C,).
        ignore_index: class index whose rows neither count nor get a gradient (class-index targets only).
        reduction: "none", "sum" or "mean". With class indices the mean divides by the sum of the weights of the
            targets that count (their number, where there is no ``weight``), with probabilities by the number of
            targets. The mean of no targets is NaN with gradient zero, as in torch.
        label_smoothing: the share, in [0, 1], of the target that is spread evenly over all classes.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a class index, ``label_smoothing`` or ``reduction`` does not fit.

    Example:
        >>> logits = torch.zeros(2, 10)  # ten classes, and no idea which
        >>> cross_entropy(logits, torch.tensor([3, 7]))
        tensor(2.3026)

    Reference:
        I. J. Good, Rational Decisions, J. R. Stat. Soc. B 14 (1952), https://doi.org/10.1111/j.2517-6161.1952.tb00104.x
        (the logarithmic score). Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567.
    """
    _check_arguments(input, target, weight, ignore_index, reduction, label_smoothing)
    class_dim = 0 if input.dim() == 1 else 1
    logits = working_precision(input)
    weight = None if weight is None else weight.to(logits.dtype)
    if target.is_floating_point():
        target = (1 - label_smoothing) * target.to(logits.dtype) + label_smoothing / input.shape[class_dim]
        loss = _expected_surprise(logits, target, weight, class_dim)
        total_weight = loss.numel()
    else:
        loss, total_weight = _surprise(logits, target.long(), weight, ignore_index, label_smoothing, class_dim)
    if reduction == "mean":
        loss = loss.sum() / total_weight
    elif reduction == "sum":
        loss = loss.sum()
    return as_result(loss, input.dtype)


def _surprise(logits, target, weight, ignore_index, label_smoothing, class_dim):
    """Return the loss of each class index, and what their mean divides by."""
    ignored = target == ignore_index
    ignored = ignored if any_true(ignored, unknown=True) else None
    if ignored is not None:
        # The mask goes before the maths: an infinite logit in an ignored row must not reach the gradient as 0 * inf.
        logits = logits.masked_fill(ignored.unsqueeze(class_dim), 0.0)
        target = target.masked_fill(ignored, 0)
    loss = _log_loss(logits, target.unsqueeze(class_dim), class_dim)
    row_weight = None if weight is None else weight[target]
    if row_weight is not None:
        loss = loss * row_weight
    if label_smoothing:
        uniform = torch.full_like(logits, 1 / logits.shape[class_dim])
        spread = _expected_surprise(logits, uniform, weight, class_dim)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    if ignored is not None:
        loss = loss.masked_fill(ignored, 0.0)
        row_weight = ~ignored if row_weight is None else row_weight.masked_fill(ignored, 0.0)
    return loss, loss.numel() if row_weight is None else row_weight.sum()


def _log_loss(logits, index, class_dim):
    """Return log(1 + the sum over the rivals of exp(rival - truth))."""
    lowest = torch.finfo(logits.dtype).min  # in place of -inf, whose differences have no gradient
    truth = logits.gather(class_dim, index)
    rivals = (logits - truth.clamp(min=lowest)).clamp(min=lowest).scatter(class_dim, index, -torch.inf)
    loss = softplus(rivals.logsumexp(class_dim))
    return loss.masked_fill(truth.squeeze(class_dim) == -torch.inf, torch.inf)


def _expected_surprise(logits, target, weight, class_dim):
    """Return the sum over the classes of target times weight times the negative log-probability."""
    shifted = logits - logits.detach().amax(class_dim, keepdim=True)
    surprise = shifted.exp().sum(class_dim, keepdim=True).log() - shifted
    # A class that is ruled out (logit -inf) and never occurs (target 0) costs nothing, not 0 * inf.
    surprise = torch.where((target == 0) & surprise.isinf(), 0.0, surprise)
    if weight is not None:
        surprise = surprise * weight.reshape([-1] + [1] * (logits.dim() - class_dim - 1))
    return (target * surprise).sum(class_dim)


def _check_arguments(input, target, weight, ignore_index, reduction, label_smoothing):
    """Raise TypeError or ValueError, saying what was given and what is wanted, where an argument does not fit."""
    check_reduction(reduction)
    check_floating("input", input)
    if not isinstance(target, torch.Tensor):
        raise TypeError(f"target must be a torch.Tensor, got {type(target).__name__}")
    if input.dim() == 0:
        raise ValueError("input must have a class dimension: shape (C,), (N, C) or (N, C, d1, ...), got a scalar")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
    class_dim = 0 if input.dim() == 1 else 1
    classes = input.shape[class_dim]
    if weight is not None:
        check_floating("weight", weight)
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ValueError(f"weight must have one factor for each of the {classes} classes, got {tuple(weight.shape)}")
    if target.is_floating_point():
        if ignore_index >= 0:
            raise ValueError(f"ignore_index is for class indices, but target holds probabilities; got {ignore_index}")
        if target.shape != input.shape:
            raise ValueError(
                f"class probabilities must have the shape of input, {tuple(input.shape)}, got {tuple(target.shape)}"
            )
        return
    if target.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(
            f"target must hold class indices (integers) or class probabilities (floats), got {target.dtype}"
        )
    wanted = input.shape[:class_dim] + input.shape[class_dim + 1 :]
    if target.shape != wanted:
        raise ValueError(
            f"class indices for input of shape {tuple(input.shape)} must have shape {tuple(wanted)}, "
            f"got {tuple(target.shape)}"
        )
    check_class_indices(target, classes, ignore_index)
