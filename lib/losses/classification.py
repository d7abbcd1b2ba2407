"""Losses for choosing one class among several."""

import math

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_class_indices,
    check_floating,
    check_integer,
    check_integers,
    check_number,
    check_real,
    check_reduction,
    check_same_shape,
    double_precision,
    reduce,
    rounded_off,
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

    .. math:: \ell = -\ln\frac{e^{z_y}}{\sum_j e^{z_j}} = \ln\Bigl(1 + \sum_{j \ne y} e^{z_j - z_y}\Bigr),
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
        ValueError: if a shape, a class index, ``label_smoothing`` or ``reduction`` does not fit, or there is no class
            (of which torch returns NaN).

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
        loss = _cross_entropy_of_probabilities(logits, target, weight, class_dim)
        total_weight = loss.numel()
    else:
        loss, total_weight = _cross_entropy_of_indices(
            logits, target.long(), weight, ignore_index, label_smoothing, class_dim
        )
    if reduction == "mean":
        loss = loss.sum() / total_weight
    elif reduction == "sum":
        loss = loss.sum()
    return as_result(loss, dtype)


def _cross_entropy_of_indices(logits, target, weight, ignore_index, label_smoothing, class_dim):
    """Return the loss of each class index, and what their mean divides by."""
    ignored = target == ignore_index
    ignored = ignored if any_true(ignored, unknown=True) else None
    if ignored is not None:
        # The mask goes before the maths: an infinite logit in an ignored row must not reach the gradient as 0 * inf.
        logits = logits.masked_fill(ignored.unsqueeze(class_dim), 0.0)
        target = target.masked_fill(ignored, 0)
    loss = _log_loss(logits, target.unsqueeze(class_dim), class_dim)
    row_weight = None if weight is None else _factors(weight, target)
    if row_weight is not None:
        loss = loss * row_weight
    if label_smoothing:
        uniform = torch.full_like(logits, 1 / logits.shape[class_dim])
        spread = _cross_entropy_of_probabilities(logits, uniform, weight, class_dim)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    if ignored is not None:
        loss = loss.masked_fill(ignored, 0.0)
        row_weight = ~ignored if row_weight is None else row_weight.masked_fill(ignored, 0.0)
    return loss, loss.numel() if row_weight is None else row_weight.sum()


def _log_loss(logits, index, class_dim):
    """Return log(1 + the sum over the rivals of exp(rival - truth)) for the class indices, given with a class dim."""
    return _LogLoss.apply(logits, index, class_dim)[0].squeeze(class_dim)


def _cross_entropy_of_probabilities(logits, target, weight, class_dim):
    """Return the sum over the classes of target times weight times the negative log-probability."""
    if weight is not None:
        target = target * weight.reshape([-1] + [1] * (logits.dim() - class_dim - 1))
    return _CrossEntropy.apply(logits, target, class_dim)[0].squeeze(class_dim)


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
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, *_):
        if gradient is None:
            return None, None, None
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


class _CrossEntropy(torch.autograd.Function):
    """Sum over the classes of target times -log softmax: deficit plus log(1 + the odds of all but the largest).

    No term is negative, and in the gradient of the largest logit 1 does not cancel. Beside the loss it returns what its
    backward pass needs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, target, class_dim):
        odds, largest, top, shifted = _CrossEntropy.terms(logits, class_dim)
        others = odds.sum(class_dim, keepdim=True)
        if any_true(shifted.amin(class_dim) == -torch.inf, unknown=True):
            # A class that is ruled out (logit -inf) and never occurs (target 0) costs nothing, not 0 * inf.
            shifted = shifted.masked_fill((target == 0) & (shifted == -torch.inf), 0.0)
        total = target.sum(class_dim, keepdim=True)
        loss = total * others.log1p() - (target * shifted).sum(class_dim, keepdim=True)
        return loss, odds, largest, others, top

    @staticmethod
    def setup_context(ctx, inputs, output):
        logits, target, ctx.class_dim = inputs
        ctx.save_for_backward(logits, target, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, *_):
        if gradient is None:
            return None, None, None
        logits, target, odds, largest, others, top = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            odds, largest, _, _ = _CrossEntropy.terms(logits, ctx.class_dim)
            others = odds.sum(ctx.class_dim, keepdim=True)
        in_logits = in_target = None
        if ctx.needs_input_grad[0]:  # total * softmax - target; of the largest logit the share of the others counts
            total = target.sum(ctx.class_dim, keepdim=True)
            share = total / (largest + others).clamp(min=torch.finfo(odds.dtype).tiny)
            at_top = (total - target.gather(ctx.class_dim, top)) - share * others
            slope = gradient.masked_fill(largest.detach() == 0, 0.0)  # where all classes are ruled out, as of an index
            in_logits = torch.addcmul(odds * (share * slope), target, slope, value=-1)
            in_logits = in_logits.scatter(ctx.class_dim, top, at_top * slope)
        if ctx.needs_input_grad[1]:
            at_top = logits.gather(ctx.class_dim, top).clamp(min=torch.finfo(odds.dtype).min)
            in_target = gradient * (others.log1p() - (logits - at_top))
        return in_logits, in_target, None

    @staticmethod
    def terms(logits, class_dim):
        """Return exp(logit - largest), 0 for the largest, the same of that, which it is, and logit - largest."""
        odds, shifted = _odds(logits, class_dim)
        top = odds.detach().argmax(class_dim, keepdim=True)
        largest = odds.gather(class_dim, top)
        return odds.scatter(class_dim, top, 0.0), largest, top, shifted


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
    check_integer("ignore_index", ignore_index)
    check_number("label_smoothing", label_smoothing, lambda share: 0 <= share <= 1, "between 0 and 1")
    class_dim = 0 if input.dim() == 1 else 1
    classes = input.shape[class_dim]
    if classes == 0:
        raise ValueError(f"input must have at least one class, got shape {tuple(input.shape)}")
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


def binary_cross_entropy(
    input: torch.Tensor, target: torch.Tensor, *, weight: torch.Tensor | None = None, reduction: str = "mean"
) -> torch.Tensor:
    r"""Cross-entropy between a probability and a yes-or-no target; from logits, use the version that takes them.

    For the probability :math:`p` and the target :math:`y`,

    .. math:: \ell = -y\,\max(\ln p, -100) - (1 - y)\max(\ln(1 - p), -100),
              \qquad \frac{\partial\ell}{\partial p} = \frac{p - y}{\max(p(1 - p), 10^{-12})}.

    Both limits are torch's: a certain and wrong answer costs 100, not infinity, and next to 0 and 1 the gradient is
    smaller than the derivative. What a probability has lost cannot be had back: in float32 the sigmoid of every logit
    above 17 is 1, and of every logit below -104 is 0, where the loss is flat and nothing is learnt.
    :func:`binary_cross_entropy_with_logits` has no such limits.

    Args:
        input: probabilities in [0, 1], any shape.
        target: probabilities of yes in [0, 1], usually 0 or 1, integers or floats in the shape of ``input``.
        weight: a factor for each loss, of a shape that broadcasts to that of ``input``.
        reduction: "none", "sum" or "mean" (over all elements, with ``weight`` too; of no elements it is NaN).

    Returns:
        The loss in nats in the dtype to which those of ``input`` and ``target`` promote (half precision is computed in
        float32): a scalar, or the shape of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a probability or target is outside [0, 1], or a shape or ``reduction`` does not fit.

    Example:
        >>> probability = torch.tensor([0.9, 0.5, 0.0])
        >>> binary_cross_entropy(probability, torch.tensor([1.0, 1.0, 1.0]), reduction="none")
        tensor([  0.1054,   0.6931, 100.0000])

    Reference:
        I. J. Good, Rational Decisions, J. R. Stat. Soc. B 14 (1952), https://doi.org/10.1111/j.2517-6161.1952.tb00104.x.
        torch: ``torch.nn.functional.binary_cross_entropy``.
    """
    dtype = _check_binary(input, target, reduction, weight=weight)
    _check_probable("input", input, "; binary_cross_entropy_with_logits takes logits")
    _check_probable("target", target)
    probability = working_precision(input.to(dtype))
    loss = _LogLossOfProbability.apply(probability, target.to(probability.dtype))
    return as_result(reduce(_weighted(loss, weight), reduction), dtype)


def binary_cross_entropy_with_logits(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    pos_weight: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Cross-entropy between the sigmoid of a logit and a yes-or-no target.

    For the logit :math:`z`, the target :math:`y` and the weight :math:`w` of a yes,

    .. math:: \ell = (1 - y)\ln(1 + e^z) + w\,y\ln(1 + e^{-z}),
              \qquad \frac{\partial\ell}{\partial z} = (1 - y)\,\sigma(z) - w\,y\,\sigma(-z).

    torch writes :math:`\ln(1 + e^z)` as :math:`z + \ln(1 + e^{-z})`, which in float32 rounds the loss of a confident
    right no (:math:`z < -17`) to 0, and its gradient for a confident right yes; neither happens here.

    Args:
        input: logits (log-odds, nats), any shape.
        target: probabilities of yes, usually 0 or 1, integers or floats in the shape of ``input``. As in torch other
            numbers are taken as they are.
        weight: a factor for each loss, of a shape that broadcasts to that of ``input``.
        pos_weight: a factor for the part of a yes, above 1 for more recall and below 1 for more precision, of a shape
            that broadcasts to that of ``input``; usually one for each class, shape (C,) for logits (N, C).
        reduction: "none", "sum" or "mean" (over all elements, with weights too; of no elements it is NaN).

    Returns:
        The loss in nats in the dtype to which those of ``input`` and ``target`` promote (half precision is computed in
        float32): a scalar, or the shape of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape or ``reduction`` does not fit.

    Example:
        >>> logits = torch.tensor([10.0, 0.0, -200.0])
        >>> binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 1.0, 1.0]), reduction="none")
        tensor([4.5399e-05, 6.9315e-01, 2.0000e+02])

    Reference:
        D. R. Cox, The Regression Analysis of Binary Sequences, J. R. Stat. Soc. B 20 (1958),
        https://doi.org/10.1111/j.2517-6161.1958.tb00292.x. torch:
        ``torch.nn.functional.binary_cross_entropy_with_logits``.
    """
    dtype = _check_binary(input, target, reduction, weight=weight, pos_weight=pos_weight)
    logits = working_precision(input.to(dtype))
    if pos_weight is not None:
        pos_weight = pos_weight.to(logits.dtype).expand_as(logits)
    loss = _LogLossOfLogit.apply(logits, target.to(logits.dtype), pos_weight)
    return as_result(reduce(_weighted(loss, weight), reduction), dtype)


def nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Negative log-likelihood of the true class, from log-probabilities.

    For log-probabilities :math:`\ln p_j`, the true class :math:`y` and the weights :math:`w` of the classes,

    .. math:: \ell = -w_y \ln p_y, \qquad \frac{\partial\ell}{\partial \ln p_j} = -w_y\,[j = y].

    After a log-softmax this is :func:`cross_entropy`, which keeps the small loss of a confident right answer; a
    log-probability next to 0 has lost it.

    Args:
        input: log-probabilities (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: class indices in [0, C), integers of the shape of ``input`` without C.
        weight: a factor for each class, shape (C,).
        ignore_index: class index whose rows neither count nor get a gradient.
        reduction: "none", "sum" or "mean". The mean divides by the sum of the weights of the targets that count (their
            number, where there is no ``weight``); of no targets it is NaN with gradient zero, as in torch.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a class index or ``reduction`` does not fit.

    Example:
        >>> log_probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]).log()
        >>> nll_loss(log_probabilities, torch.tensor([0, 1]), reduction="none")
        tensor([0.3567, 0.2231])

    Reference:
        R. A. Fisher, On the Mathematical Foundations of Theoretical Statistics, Phil. Trans. R. Soc. A 222 (1922),
        https://doi.org/10.1098/rsta.1922.0009. torch: ``torch.nn.functional.nll_loss``.
    """
    _check_rows(input, target, ignore_index, reduction, weight=weight)
    log_probability = working_precision(input)
    index, ignored = _without_ignored(target, ignore_index)
    loss = -_at_class(log_probability, index)
    counted = None if weight is None else _factors(weight.to(loss.dtype), index)
    if counted is not None:
        loss = counted * loss
    if ignored is not None:
        loss = loss.masked_fill(ignored, 0.0)
        counted = ~ignored if counted is None else counted.masked_fill(ignored, 0.0)
    if reduction == "mean" and counted is not None:
        return as_result(loss.sum() / counted.sum(), input.dtype)
    return as_result(reduce(loss, reduction), input.dtype)


def focal_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    gamma: float = 2.0,
    alpha: torch.Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Focal loss: cross-entropy that turns away from what is already well classified.

    For logits :math:`z`, the true class :math:`y`, :math:`p = \operatorname{softmax}(z)` and the weights :math:`\alpha`
    of the classes,

    .. math:: \ell = -\alpha_y (1 - p_y)^\gamma \ln p_y,
       \qquad \frac{\partial\ell}{\partial z_j}
       = \alpha_y (1 - p_y)^{\gamma - 1} (1 - p_y - \gamma\,p_y\ln p_y)\,(p_j - [j = y]).

    With :math:`\gamma = 0` and no weights it is :func:`cross_entropy`. The factor :math:`1 - p_y` is never computed as
    that difference, so the gradient is right where :math:`p_y` rounds to 1, and finite there for :math:`\gamma < 1`
    too.

    Args:
        input: logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: class indices in [0, C), integers of the shape of ``input`` without C.
        gamma: how fast attention falls with the probability of the true class, 0 or above.
        alpha: a factor for each class, shape (C,).
        ignore_index: class index whose rows neither count nor get a gradient.
        reduction: "none", "sum" or "mean". The mean divides by the number of rows that count, not by the sum of their
            ``alpha``; of no rows it is NaN.

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if ``gamma`` is negative or infinite, or a shape, a class index or ``reduction`` does not fit.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 0.0]])  # easy, undecided
        >>> focal_loss(logits, torch.tensor([0, 0]), reduction="none")
        tensor([5.8716e-06, 1.7329e-01])

    Reference:
        Lin et al., Focal Loss for Dense Object Detection (2017), https://arxiv.org/abs/1708.02002.
    """
    check_number("gamma", gamma, lambda gamma: 0 <= gamma < math.inf, "0 or above and finite")
    _check_rows(input, target, ignore_index, reduction, weight=alpha, weight_name="alpha")
    logits, index, ignored = _rows(input, target, ignore_index)
    lead = _lead_of_rivals(logits, index)
    log_loss = softplus(lead)  # -log p
    loss = (gamma * _log_p_of_rivals(lead)).exp() * log_loss
    if alpha is not None:
        loss = _factors(alpha.to(loss.dtype), index) * loss
    return _result_of_rows(loss, ignored, reduction, input.dtype)


def sigmoid_focal_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Focal loss of a logit for a yes-or-no target, as detectors use it for each class by itself.

    For the logit :math:`z`, the target :math:`y` and :math:`p = \sigma(z)`,

    .. math:: \ell = w\,d^\gamma c,
              \quad w = \alpha y + (1 - \alpha)(1 - y),
              \quad d = y(1 - p) + (1 - y)p,
              \quad c = -y\ln p - (1 - y)\ln(1 - p),

    .. math:: \frac{\partial\ell}{\partial z}
              = w\,d^\gamma \Bigl(p - y + \gamma\,c\,\frac{(1 - 2y)\,p(1 - p)}{d}\Bigr).

    This is the formula of ``torchvision.ops.sigmoid_focal_loss``. Its minimum is where it should be for hard targets
    only: with a soft target the factor :math:`d^\gamma` pulls the answer beyond it (without ``alpha``, from
    :math:`y = 0.8` to :math:`p = 0.95`), and to a target of 0.5 it does nothing but scale.

    Args:
        input: logits (log-odds, nats), any shape.
        target: probabilities of yes in [0, 1], usually 0 or 1, integers or floats in the shape of ``input``.
        gamma: how fast attention falls with the probability of the truth, 0 or above.
        alpha: the weight of a yes, in [0, 1]; a no weighs 1 - alpha. None, or torchvision's -1, weighs neither. What
            weighs 0 costs nothing, even at an infinite logit.
        reduction: "none", "sum" or "mean" (over all elements; of no elements it is NaN). torchvision's default is
            "none", and detectors divide the sum by the number of objects.

    Returns:
        The loss in nats in the dtype to which those of ``input`` and ``target`` promote (half precision is computed in
        float32): a scalar, or the shape of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a target, ``gamma`` or ``alpha`` is out of range, the shapes differ or ``reduction`` is unknown.

    Example:
        >>> logits = torch.tensor([4.0, 0.0, -4.0])  # easy, undecided, badly wrong
        >>> sigmoid_focal_loss(logits, torch.tensor([1.0, 1.0, 1.0]), reduction="none")
        tensor([1.4679e-06, 4.3322e-02, 9.6873e-01])

    Reference:
        Lin et al., Focal Loss for Dense Object Detection (2017), https://arxiv.org/abs/1708.02002.
    """
    check_number("gamma", gamma, lambda gamma: 0 <= gamma < math.inf, "0 or above and finite")
    if alpha is not None:
        check_number("alpha", alpha, lambda alpha: 0 <= alpha <= 1 or alpha == -1, "in [0, 1], or None or -1")
    dtype = _check_binary(input, target, reduction)
    _check_probable("target", target)
    logits = working_precision(input.to(dtype))
    target = target.to(logits.dtype)
    loss, _, _ = _FocalLossOfLogit.apply(logits, target, gamma)
    if alpha is not None and alpha >= 0:
        of_no, of_yes = (torch.full((), weight, dtype=loss.dtype, device=loss.device) for weight in (1 - alpha, alpha))
        factor = torch.lerp(of_no, of_yes, target)
        if alpha in (0, 1):  # what weighs nothing costs nothing, not 0 * inf
            loss = loss.masked_fill(factor == 0, 0.0)
        loss = factor * loss
    return as_result(reduce(loss, reduction), dtype)


def class_balanced_weights(counts: torch.Tensor, *, beta: float = 0.999) -> torch.Tensor:
    r"""Weights of classes by their effective number of samples: the rarer, the heavier, but not without bound.

    For :math:`C` classes with :math:`n` samples each,

    .. math:: w_j \propto \frac{1 - \beta}{1 - \beta^{n_j}}, \qquad \sum_j w_j = C.

    With :math:`\beta = 0` all classes weigh 1. With :math:`\beta = 1` a class weighs as the inverse of its frequency,
    and only there do the probabilities that minimise the weighted cross-entropy become those of balanced classes. The
    result is the ``weight`` of :func:`cross_entropy` or the ``alpha`` of :func:`focal_loss`.

    Args:
        counts: the number of samples of each class, above 0, integers or floats of shape (C,).
        beta: the share of a sample that each earlier sample of its class leaves new, in [0, 1].

    Returns:
        The weights, shape (C,), in the dtype of ``counts``, or torch's default dtype where that is an integer.

    Raises:
        TypeError: if ``counts`` does not hold numbers or ``beta`` is none.
        ValueError: if a count is not above 0 and finite, there is none, or ``beta`` is not in [0, 1].

    Example:
        >>> class_balanced_weights(torch.tensor([5000, 500, 50]))
        tensor([0.1256, 0.3170, 2.5574])

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples (2019),
        https://arxiv.org/abs/1901.05555.
    """
    check_number("beta", beta, lambda beta: 0 <= beta <= 1, "in [0, 1]")
    check_real("counts", counts)
    if counts.dim() != 1 or counts.numel() == 0:
        raise ValueError(f"counts must have shape (C,) with at least one class, got {tuple(counts.shape)}")
    unusable = ~((counts > 0) & (counts < math.inf))
    if any_true(unusable):
        raise ValueError(f"counts must be above 0 and finite, got {counts[unusable][0].item()}")
    dtype = counts.dtype if counts.is_floating_point() else torch.get_default_dtype()
    counts = double_precision(counts)
    log_beta = math.log(beta) if beta > 0 else -math.inf
    # The effective number of samples up to its factor 1 / (1 - beta), which cancels; its limit at beta = 1 is n.
    effective = counts if beta == 1 else -torch.expm1(counts * log_beta)
    weights = effective.min() / effective
    return (weights * (len(counts) / weights.sum())).to(dtype)


def generalized_cross_entropy(
    input: torch.Tensor, target: torch.Tensor, *, q: float = 0.7, ignore_index: int = -100, reduction: str = "mean"
) -> torch.Tensor:
    r"""Generalised cross-entropy: between cross-entropy, which learns fast, and absolute error, robust to wrong labels.

    For logits :math:`z`, the true class :math:`y` and :math:`p = \operatorname{softmax}(z)`,

    .. math:: \ell = \frac{1 - p_y^q}{q},
              \qquad \frac{\partial\ell}{\partial z_j} = p_y^q\,(p_j - [j = y]).

    At :math:`q = 0` this is :func:`cross_entropy`, and at :math:`q = 1` half the absolute error, :math:`1 - p_y`. It
    never exceeds :math:`1/q`.

    Args:
        input: logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: class indices in [0, C), integers of the shape of ``input`` without C.
        q: from 0 (cross-entropy) to 1 (absolute error).
        ignore_index: class index whose rows neither count nor get a gradient.
        reduction: "none", "sum" or "mean" (over the rows that count; of no rows it is NaN).

    Returns:
        The loss in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or the shape
        of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if ``q`` is not in [0, 1], or a shape, a class index or ``reduction`` does not fit.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])  # undecided, badly wrong
        >>> generalized_cross_entropy(logits, torch.tensor([0, 0]), reduction="none")
        tensor([0.5492, 1.4286])

    Reference:
        Z. Zhang and M. R. Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels
        (2018), https://arxiv.org/abs/1805.07836.
    """
    check_number("q", q, lambda q: 0 <= q <= 1, "in [0, 1]")
    _check_rows(input, target, ignore_index, reduction)
    logits, index, ignored = _rows(input, target, ignore_index)
    lead = _lead_of_rivals(logits, index)
    log_loss = softplus(lead)  # -log p
    if q < torch.finfo(torch.float64).tiny:  # 1 / q could overflow
        return _result_of_rows(log_loss, ignored, reduction, input.dtype)
    # expm1 keeps the digits of a small loss, exp those of the gradient of a large one; the smallest products underflow.
    product = q * log_loss
    loss = torch.where(product < 1, -torch.expm1(-product), 1 - torch.exp(-product)) / q
    loss = torch.where(product < torch.finfo(loss.dtype).eps / 2, log_loss, loss)
    return _result_of_rows(loss, ignored, reduction, input.dtype)


def symmetric_cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    alpha: float = 0.1,
    beta: float = 1.0,
    log_zero: float = -4.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Symmetric cross-entropy: cross-entropy, and the same with target and prediction exchanged, for noisy labels.

    For logits :math:`z`, the true class :math:`y` and :math:`p = \operatorname{softmax}(z)`,

    .. math:: \ell = -\alpha\ln p_y - \beta A\,(1 - p_y),
              \qquad \frac{\partial\ell}{\partial z_j} = (\alpha - \beta A\,p_y)(p_j - [j = y]),

    where :math:`A < 0` stands for the logarithm of the target's zeros in the reverse cross-entropy
    :math:`-\sum_j p_j \ln q_j`, with :math:`q_j = [j = y]`.

    Args:
        input: logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: class indices in [0, C), integers of the shape of ``input`` without C.
        alpha: the factor of cross-entropy, 0 or above.
        beta: the factor of reverse cross-entropy, 0 or above.
        log_zero: what the logarithm of 0 is taken to be, A, below 0 (nats).
        ignore_index: class index whose rows neither count nor get a gradient.
        reduction: "none", "sum" or "mean" (over the rows that count; of no rows it is NaN).

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if ``alpha``, ``beta`` or ``log_zero`` is out of range, or a shape, a class index or ``reduction``
            does not fit.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])  # undecided, badly wrong
        >>> symmetric_cross_entropy(logits, torch.tensor([0, 0]), reduction="none")
        tensor([ 2.0693, 14.0000])

    Reference:
        Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels (2019),
        https://arxiv.org/abs/1908.06112.
    """
    for name, factor in (("alpha", alpha), ("beta", beta)):
        check_number(name, factor, lambda factor: 0 <= factor < math.inf, "0 or above and finite")
    check_number("log_zero", log_zero, lambda log_zero: -math.inf < log_zero < 0, "below 0 and finite")
    _check_rows(input, target, ignore_index, reduction)
    logits, index, ignored = _rows(input, target, ignore_index)
    lead = _lead_of_rivals(logits, index)
    loss = -beta * log_zero * _log_p_of_rivals(lead).exp()
    if alpha:  # not 0 * inf where the true class is ruled out
        loss = loss + alpha * softplus(lead)
    return _result_of_rows(loss, ignored, reduction, input.dtype)


def brier_loss(
    input: torch.Tensor, target: torch.Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> torch.Tensor:
    r"""Brier score: the squared distance between the softmax of the logits and the target.

    For logits :math:`z`, :math:`p = \operatorname{softmax}(z)` and the target :math:`q` (one-hot for a class index),

    .. math:: \ell = \sum_j (p_j - q_j)^2,
              \qquad \frac{\partial\ell}{\partial z_j} = 2 p_j \Bigl(p_j - q_j - \sum_k p_k (p_k - q_k)\Bigr).

    This is Brier's own score, over all classes, in [0, 2]; with two classes it is twice the score of one of them. Like
    cross-entropy it is least where :math:`p = q`, but a wrong answer costs at most 2, and a badly wrong one has next to
    no gradient. Where every logit is -inf, each :math:`p_j` is taken to be 0.

    Args:
        input: logits (nats), shape (C,), (N, C) or (N, C, d1, ..., dK).
        target: class indices in [0, C), an integer tensor of the shape of ``input`` without C; or class
            probabilities, a floating-point tensor of the shape of ``input``.
        ignore_index: class index whose rows neither count nor get a gradient (class-index targets only).
        reduction: "none", "sum" or "mean" (over the rows that count, not the classes; of no rows it is NaN).

    Returns:
        The loss in the dtype of ``input``, to which that of class probabilities promotes (computed in float32 where
        that is a half precision): a scalar, or the shape of ``input`` without C where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a class index, a probability or ``reduction`` does not fit.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])  # undecided, badly wrong
        >>> brier_loss(logits, torch.tensor([0, 0]), reduction="none")
        tensor([0.5000, 2.0000])

    Reference:
        G. W. Brier, Verification of Forecasts Expressed in Terms of Probability, Mon. Weather Rev. 78 (1950),
        https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    check_floating("input", input)
    if isinstance(target, torch.Tensor) and target.is_floating_point():
        _check_probabilities(input, target, ignore_index, reduction)
        dtype = torch.promote_types(input.dtype, target.dtype)
        logits, ignored = working_precision(input.to(dtype)), None
        target = target.to(logits.dtype)
    else:
        dtype = input.dtype
        _check_rows(input, target, ignore_index, reduction)
        logits, index, ignored = _rows(input, target, ignore_index)
        class_dim = _class_dim(logits)
        target = torch.zeros_like(logits).scatter(class_dim, index.unsqueeze(class_dim), 1.0)
    score = _BrierScore.apply(logits, target, _class_dim(logits))[0]
    return _result_of_rows(score, ignored, reduction, dtype)


class _LogLossOfProbability(torch.autograd.Function):
    """-(1 - target) log(1 - probability) - target log(probability), with torch's limits of value and gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(probability, target):
        log_no = torch.log1p(-probability).clamp(min=-100)
        log_yes = torch.log(probability).clamp(min=-100)
        return torch.lerp(log_no, log_yes, target).neg_()  # lerp(a, b, t) = (1 - t) a + t b, and a, b at the ends

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        probability, target = ctx.saved_tensors
        of_target = None
        if ctx.needs_input_grad[1]:
            log_no, log_yes = torch.log1p(-probability), torch.log(probability)
            of_target = gradient * (log_no.clamp(min=-100) - log_yes.clamp(min=-100))
        spread = (probability * (1 - probability)).clamp(min=1e-12)
        return gradient * ((probability - target) / spread), of_target


class _LogLossOfLogit(torch.autograd.Function):
    """(1 - target) softplus(logit) + pos_weight target softplus(-logit), with one exponential and no graph between."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logit, target, pos_weight):
        return _log_loss_of_logit(logit, target, pos_weight)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        logit, target, pos_weight = ctx.saved_tensors
        slope_no, slope_yes = logit.sigmoid(), -(-logit).sigmoid_()
        if pos_weight is not None:
            slope_yes = pos_weight * slope_yes
        of_target = of_weight = None
        if ctx.needs_input_grad[1]:
            yes = softplus(-logit)
            of_target = gradient * ((yes if pos_weight is None else pos_weight * yes) - softplus(logit))
        if ctx.needs_input_grad[2]:
            of_weight = gradient * (target * softplus(-logit)).masked_fill(target == 0, 0.0)  # not 0 * inf
        return gradient * torch.lerp(slope_no, slope_yes, target), of_target, of_weight


class _FocalLossOfLogit(torch.autograd.Function):
    """d^gamma c, with c the log loss of a logit and d = target (1 - p) + (1 - target) p, how far p is off.

    Autograd would divide by d where it underflows, and round 1 - p to 0 where it does not. Beside the loss come
    d and c.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logit, target, gamma):
        log_loss = _log_loss_of_logit(logit, target)
        distance = torch.lerp(logit.sigmoid(), (-logit).sigmoid(), target).clamp(min=torch.finfo(logit.dtype).tiny)
        return distance.pow(gamma) * log_loss, distance, log_loss

    @staticmethod
    def setup_context(ctx, inputs, output):
        logit, target, ctx.gamma = inputs
        ctx.save_for_backward(logit, target, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, *_):
        if gradient is None:
            return None, None, None
        logit, target, distance, log_loss = ctx.saved_tensors
        yes, no = logit.sigmoid(), (-logit).sigmoid()
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            distance = torch.lerp(yes, no, target).clamp(min=torch.finfo(logit.dtype).tiny)
            log_loss = _of_no_and_yes(softplus(logit), softplus(-logit), target)
        scale = gradient * distance.pow(ctx.gamma)
        pull = (log_loss / distance).clamp(max=torch.finfo(logit.dtype).max)  # not inf * 0 at an infinite logit
        turn = ctx.gamma * (pull * yes * no)
        of_logit = scale * torch.lerp(yes + turn, -(no + turn), target)
        of_target = scale * (ctx.gamma * pull * (no - yes) - logit) if ctx.needs_input_grad[1] else None
        return of_logit, of_target, None


def _log_loss_of_logit(logit, target, pos_weight=None):
    """Return (1 - target) softplus(logit) + pos_weight target softplus(-logit), from one exponential."""
    common = logit.abs().neg_().exp_().log1p_()
    no, yes = logit.relu(), (-logit).relu_()
    return _of_no_and_yes(no.add_(common), yes.add_(common), target, pos_weight)


def _of_no_and_yes(no, yes, target, pos_weight=None):
    """Return (1 - target) no + pos_weight target yes, where what does not occur costs nothing, not 0 * inf."""
    loss = torch.lerp(no, yes if pos_weight is None else pos_weight * yes, target)
    if any_true(~loss.detach().sum().isfinite(), unknown=True):  # lerp takes the difference of the two
        infinite = no.isinf() | yes.isinf()
        of_yes = target if pos_weight is None else pos_weight * target
        no, yes = no.masked_fill(target == 1, 0.0), yes.masked_fill(of_yes == 0, 0.0)
        loss = torch.where(infinite, (1 - target) * no + of_yes * yes, loss)
    return loss


class _LeadOfRivals(torch.autograd.Function):
    """For each row the lead of the rivals of a class, log(sum of exp(rival)) - truth; its gradient is their softmax.

    The derivative of torch's logsumexp is exp(logit - logsumexp), which is no more exact than the logsumexp: with
    logits of 1e4 it is off in the fourth digit. The softmax is computed in the backward pass and not kept for it:
    beside the gradient it would be a second tensor of the size of the logits. What is kept are the largest rival and
    the sum, which come beside the lead.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, index, class_dim):
        odds, largest = _odds_of_rivals(logits, index, class_dim)
        total = _total(odds, class_dim)
        lead = double_precision(total).log() + (
            double_precision(largest) - double_precision(logits.gather(class_dim, index))
        )
        return lead.squeeze(class_dim), largest, total

    @staticmethod
    def setup_context(ctx, inputs, output):
        logits, index, ctx.class_dim = inputs
        ctx.save_for_backward(logits, index, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, *_):
        if gradient is None:
            return None, None, None
        logits, index, largest, total = ctx.saved_tensors
        gradient = gradient.unsqueeze(ctx.class_dim)
        of_truth = -gradient.to(logits.dtype)
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            shares = _SharesOfRivals.apply(logits, index, ctx.class_dim)
            return (shares * -of_truth).scatter(ctx.class_dim, index, of_truth), None, None
        odds, _ = _odds_of_rivals(logits, index, ctx.class_dim, largest)
        factor = (gradient / total).to(logits.dtype)
        try:
            slope = odds.mul_(factor)
        except RuntimeError:  # vmap maps over the gradient alone
            slope = odds * factor
        return slope.scatter_(ctx.class_dim, index, of_truth), None, None


class _SharesOfRivals(torch.autograd.Function):
    """The softmax among the rivals of a class, 0 for the class itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, index, class_dim):
        odds, _ = _odds_of_rivals(logits, index, class_dim)
        return odds.div_(_total(odds, class_dim))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *_, ctx.class_dim = inputs
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        (shares,) = ctx.saved_tensors
        return shares * (gradient - (gradient * shares).sum(ctx.class_dim, keepdim=True)), None, None


def _odds_of_rivals(logits, index, class_dim, largest=None):
    """Return exp(logit - largest) of the rivals of a class, 0 for that class, and their largest logit."""
    odds = logits.scatter(class_dim, index, -torch.inf)
    if largest is None:
        largest = odds.amax(class_dim, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)
    odds.sub_(largest)
    if logits.dtype == torch.float32 and _is_wide(logits):
        correction = 1 + rounded_off(odds, logits, largest)  # what rounding does to the exponential
        return odds.exp_().mul_(correction), largest
    return odds.exp_(), largest


def _total(odds, class_dim):
    """Return the sum of the odds of the rivals, above 0 also where there is no rival."""
    return odds.sum(class_dim, keepdim=True).clamp(min=torch.finfo(odds.dtype).tiny)


class _BrierScore(torch.autograd.Function):
    """Sum over the classes of (softmax - target)^2. Beside it come what its backward pass needs.

    Where the probability of the likeliest class rounds to 1, what it lacks is the sum of all others. Where every class
    is ruled out, each probability is 0, as in the other losses of class indices.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, target, class_dim):
        likeliest = logits.argmax(class_dim, keepdim=True)
        probability, excess = _BrierScore.terms(logits, target, likeliest, class_dim)
        return excess.square().sum(class_dim), probability, excess, likeliest

    @staticmethod
    def setup_context(ctx, inputs, output):
        logits, target, ctx.class_dim = inputs
        ctx.save_for_backward(logits, target, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, *_):
        if gradient is None:
            return None, None, None
        logits, target, probability, excess, likeliest = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be derived once more
            probability, excess = _BrierScore.terms(logits, target, likeliest, ctx.class_dim)
        gradient = 2 * gradient.unsqueeze(ctx.class_dim)
        lead = _BrierScore.lead(logits, target, probability, excess, likeliest, ctx.class_dim)
        expected = (probability * lead).sum(ctx.class_dim, keepdim=True)
        slope = probability * (lead - expected)
        return gradient * slope, -gradient * excess if ctx.needs_input_grad[1] else None, None

    @staticmethod
    def lead(logits, target, probability, excess, likeliest, class_dim):
        """Return softmax - target, less that of the likeliest class, exactly 0 where both are alike.

        With a sure target on the likeliest class both excesses may be small, and their difference has the digits. With
        any other the differences of the probabilities and of the targets have them: of two equal logits none is left.
        """
        largest = logits.gather(class_dim, likeliest).clamp(min=torch.finfo(logits.dtype).min)
        at_top, sure = probability.gather(class_dim, likeliest), target.gather(class_dim, likeliest)
        apart = at_top * torch.expm1(logits - largest) - (target - sure)
        return torch.where(sure > 0.75, excess - excess.gather(class_dim, likeliest), apart)

    @staticmethod
    def terms(logits, target, likeliest, class_dim):
        """Return softmax and softmax - target, both to full relative precision."""
        odds, _ = _odds(logits, class_dim)
        largest = odds.gather(class_dim, likeliest)  # 1, or 0 where all classes are ruled out
        odds = odds.scatter(class_dim, likeliest, 0.0)
        against = odds.sum(class_dim, keepdim=True)
        total = (largest + against).clamp(min=torch.finfo(odds.dtype).tiny)
        share = odds / total
        lack = (largest.detach() - target.gather(class_dim, likeliest)) - against / total
        return (
            share.scatter(class_dim, likeliest, largest / total),
            (share - target).scatter(class_dim, likeliest, lack),
        )


def _lead_of_rivals(logits, index):
    """Return for each row the lead of the rivals over its class, log((1 - p) / p), in double precision.

    Each loss is a function of this one number per row: in double precision its exponentials have digits to spare.
    """
    class_dim = _class_dim(logits)
    return _LeadOfRivals.apply(logits, index.unsqueeze(class_dim), class_dim)[0]


def _log_p_of_rivals(lead):
    """Return log(1 - p) for the lead of the rivals, finite also where that is infinite."""
    largest = torch.finfo(lead.dtype).max
    return -softplus(-lead.clamp(-largest, largest))


def _is_wide(logits):
    """Return whether logits may be so far apart that rounding their difference shows in its exponential."""
    return logits.numel() > 0 and any_true(logits.amax() - logits.amin() > 16, unknown=True)


def _class_dim(logits):
    """Return the dimension of the classes in (C,), (N, C) or (N, C, d1, ..., dK)."""
    return 0 if logits.dim() == 1 else 1


def _at_class(tensor, index):
    """Return for each row the entry of its class."""
    class_dim = _class_dim(tensor)
    return tensor.gather(class_dim, index.unsqueeze(class_dim)).squeeze(class_dim)


def _factors(weight, index):
    """Return the weight of the class of each row; written so that it also maps over samples (vmap)."""
    return weight.gather(0, index.reshape(-1)).reshape(index.shape)


def _without_ignored(target, ignore_index):
    """Return the class indices, 0 for those ignored, and which those are; None where none is."""
    index = target.long()
    ignored = index == ignore_index
    if not any_true(ignored, unknown=True):
        return index, None
    return index.masked_fill(ignored, 0), ignored


def _rows(input, target, ignore_index):
    """Return the logits in working precision, the class indices and which are ignored; what is ignored is set to 0."""
    logits = working_precision(input)
    index, ignored = _without_ignored(target, ignore_index)
    if ignored is not None:  # the mask goes before the maths: an infinite logit must not reach the gradient as 0 * inf
        logits = logits.masked_fill(ignored.unsqueeze(_class_dim(logits)), 0.0)
    return logits, index, ignored


def _result_of_rows(loss, ignored, reduction, dtype):
    """Return the reduced losses of the rows in the dtype given; those ignored neither cost nor count."""
    if ignored is None:
        loss = reduce(loss, reduction)
    else:
        loss = reduce(loss.masked_fill(ignored, 0.0), "sum" if reduction == "mean" else reduction)
        loss = loss / (~ignored).sum() if reduction == "mean" else loss
    return as_result(loss.to(torch.promote_types(dtype, torch.float32)), dtype)


def _weighted(loss, weight):
    """Return the losses times their weights."""
    return loss if weight is None else weight.to(loss.dtype) * loss


def _check_binary(input, target, reduction, **weights):
    """Raise TypeError or ValueError where an argument does not fit; return the dtype of the loss."""
    check_reduction(reduction)
    check_floating("input", input)
    check_real("target", target)
    check_same_shape(input, target)
    for name, weight in weights.items():
        if weight is None:
            continue
        check_real(name, weight)
        try:
            broadcasts = torch.broadcast_shapes(input.shape, weight.shape) == input.shape
        except RuntimeError:
            broadcasts = False
        if not broadcasts:
            raise ValueError(
                f"{name} must have a shape that broadcasts to that of input, {tuple(input.shape)}, "
                f"got {tuple(weight.shape)}"
            )
    return torch.promote_types(input.dtype, target.dtype)


def _check_rows(input, target, ignore_index, reduction, *, weight=None, weight_name="weight"):
    """Raise TypeError or ValueError unless ``target`` holds a class index for each row of ``input``."""
    check_integers("target", target, "class indices")
    _check_arguments(input, target, None, ignore_index, reduction, 0.0)
    if weight is None:
        return
    check_floating(weight_name, weight)
    classes = input.shape[_class_dim(input)]
    if tuple(weight.shape) != (classes,):
        raise ValueError(
            f"{weight_name} must have one factor for each of the {classes} classes, got {tuple(weight.shape)}"
        )


def _check_probabilities(input, target, ignore_index, reduction):
    """Raise TypeError or ValueError unless ``target`` holds class probabilities for each row of ``input``."""
    _check_arguments(input, target, None, ignore_index, reduction, 0.0)
    _check_probable("target", target)


def _check_probable(name, tensor, hint=""):
    """Raise ValueError unless each number of ``tensor`` is a probability."""
    if tensor.numel() == 0:
        return
    least, greatest = torch.aminmax(tensor)
    if any_true(~((least >= 0) & (greatest <= 1))):  # true of NaN too
        wrong = tensor[~((tensor >= 0) & (tensor <= 1))][0].item()
        raise ValueError(f"{name} must hold probabilities, in [0, 1], got {wrong}{hint}")
