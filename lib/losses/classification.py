"""Losses for choosing one class among several."""

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_class_indices,
    check_floating,
    check_reduction,
    rounded_off,
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
    dtype = torch.promote_types(input.dtype, target.dtype) if target.is_floating_point() else input.dtype
    logits = working_precision(input.to(dtype))
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
    return as_result(loss, dtype)


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
    """Return log(1 + the sum over the rivals of exp(rival - truth)) for the class indices, given with a class dim."""
    return _LogLoss.apply(logits, index, class_dim)[0].squeeze(class_dim)


def _expected_surprise(logits, target, weight, class_dim):
    """Return the sum over the classes of target times weight times the negative log-probability."""
    if weight is not None:
        target = target * weight.reshape([-1] + [1] * (logits.dim() - class_dim - 1))
    return _ExpectedSurprise.apply(logits, target, class_dim)[0].squeeze(class_dim)


class _LogLoss(torch.autograd.Function):
    """-log softmax of the true class. Its gradient there is minus the share of the rivals, from which nothing cancels.

    Beside the loss it returns what its backward pass needs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, index, class_dim):
        odds, truth, deficit = _LogLoss.terms(logits, index, class_dim)
        rivals = odds.sum(class_dim, keepdim=True)
        loss = torch.where(deficit == 0, rivals.log1p(), (rivals + truth).log() - deficit)
        return loss.masked_fill(deficit == -torch.inf, torch.inf), odds, truth, rivals

    @staticmethod
    def setup_context(ctx, inputs, output):
        logits, index, ctx.class_dim = inputs
        ctx.save_for_backward(logits, index, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, gradient, *_):
        logits, index, odds, truth, rivals = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            odds, truth, _ = _LogLoss.terms(logits, index, ctx.class_dim)
            rivals = odds.sum(ctx.class_dim, keepdim=True)
        share = gradient / (rivals + truth).clamp(min=torch.finfo(odds.dtype).tiny)
        return (odds * share).scatter(ctx.class_dim, index, -rivals * share), None, None

    @staticmethod
    def terms(logits, index, class_dim):
        """Return exp(logit - largest), 0 for the truth, the same of the truth, and its logit minus the largest."""
        odds, shifted = _odds(logits, class_dim)
        truth, deficit = odds.gather(class_dim, index), shifted.gather(class_dim, index)
        return odds.scatter(class_dim, index, 0.0), truth, deficit


class _ExpectedSurprise(torch.autograd.Function):
    """Sum over the classes of target times -log softmax: deficit plus log(1 + the odds of all but the largest).

    No term is negative, and in the gradient of the largest logit 1 does not cancel. Beside the loss it returns what its
    backward pass needs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, target, class_dim):
        odds, shifted, top = _ExpectedSurprise.terms(logits, class_dim)
        others = odds.scatter(class_dim, top, 0.0).sum(class_dim, keepdim=True)
        if any_true(shifted.amin(class_dim) == -torch.inf, unknown=True):
            # A class that is ruled out (logit -inf) and never occurs (target 0) costs nothing, not 0 * inf.
            shifted = shifted.masked_fill((target == 0) & (shifted == -torch.inf), 0.0)
        total = target.sum(class_dim, keepdim=True)
        loss = total * others.log1p() - (target * shifted).sum(class_dim, keepdim=True)
        return loss, odds, others, top

    @staticmethod
    def setup_context(ctx, inputs, output):
        logits, target, ctx.class_dim = inputs
        ctx.save_for_backward(logits, target, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, gradient, *_):
        logits, target, odds, others, top = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            odds, _, _ = _ExpectedSurprise.terms(logits, ctx.class_dim)
            others = odds.scatter(ctx.class_dim, top, 0.0).sum(ctx.class_dim, keepdim=True)
        in_logits = in_target = None
        if ctx.needs_input_grad[0]:
            in_logits = _ExpectedSurprise.in_logits(target, odds, others, top, ctx.class_dim) * gradient
        if ctx.needs_input_grad[1]:
            in_target = gradient * (others.log1p() - (logits - logits.gather(ctx.class_dim, top)))
        return in_logits, in_target, None

    @staticmethod
    def in_logits(target, odds, others, top, class_dim):
        """Return total * softmax - target; for the largest logit total - target, less the share of the others."""
        total = target.sum(class_dim, keepdim=True)
        largest = odds.gather(class_dim, top)
        share = total / (largest + others)
        at_top = (total - target.gather(class_dim, top)) - share * others
        return (odds * share - target).scatter(class_dim, top, at_top)

    @staticmethod
    def terms(logits, class_dim):
        """Return exp(logit - largest), logit - largest, and which is the largest."""
        odds, shifted = _odds(logits, class_dim)
        return odds, shifted, odds.detach().argmax(class_dim, keepdim=True)


def _odds(logits, class_dim):
    """Return exp(logit - largest) to full relative precision, and logit - largest."""
    lowest = torch.finfo(logits.dtype).min  # in place of -inf where all classes are ruled out: -inf + inf is NaN
    largest = logits.detach().amax(class_dim, keepdim=True).clamp(min=lowest)
    shifted = logits - largest
    odds = shifted.exp()
    if logits.dtype == torch.float32 and logits.numel() and any_true(shifted.detach().amin() < -16, unknown=True):
        # Rounding the difference of two logits changes its exponential by a factor that counts from here on.
        odds = odds * (1 + rounded_off(shifted.detach(), logits.detach(), largest))
    return odds, shifted


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
