"""Losses that ask for a margin: the right answer must win, and win by enough."""

import math

import torch

from lib.losses._common import (
    any_true,
    as_result,
    check_class_indices,
    check_floating,
    check_integers,
    check_number,
    check_reduction,
    check_same_shape,
    margin_excess,
    reduce,
    rounded_off,
    softplus,
    split_float,
    working_precision,
)


def hinge_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Hinge loss of the support vector machine, for labels -1 and +1.

    For a score :math:`z` and a label :math:`y`, the loss is what the margin :math:`yz` lacks to be 1:

    .. math:: \ell = \max(0, 1 - yz),
              \qquad \frac{\partial\ell}{\partial z} = -y\,[yz < 1].

    At the kink, :math:`yz = 1`, the gradient returned is 0: nothing is lacking.

    Args:
        input: scores (in units of the margin; their sign is the decision), any shape.
        target: labels, -1 or +1, integers or floats in the shape of ``input``.
        reduction: "none", "sum" or "mean" (over all scores; of no scores it is NaN).

    Returns:
        The loss in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or the shape
        of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if the shapes differ, a label is neither -1 nor +1, or ``reduction`` is unknown.

    Example:
        >>> scores = torch.tensor([2.0, 0.5, -1.0])  # right by enough, right by too little, wrong
        >>> hinge_loss(scores, torch.tensor([1, 1, 1]), reduction="none")
        tensor([0.0000, 0.5000, 2.0000])

    Reference:
        C. Cortes and V. Vapnik, Support-Vector Networks, Machine Learning 20 (1995),
        https://doi.org/10.1007/BF00994018.
    """
    _check_scores(input, target, reduction)
    _check_labels(target)
    loss = (1 - _signed_margin(input, target)).relu()
    return as_result(reduce(loss, reduction), input.dtype)


def squared_hinge_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Squared hinge loss, the smooth support vector machine's, for labels -1 and +1.

    For a score :math:`z` and a label :math:`y`:

    .. math:: \ell = \max(0, 1 - yz)^2,
              \qquad \frac{\partial\ell}{\partial z} = -2y\max(0, 1 - yz).

    The gradient has no jump at :math:`yz = 1`; a large violation costs its square.

    Args:
        input: scores (in units of the margin; their sign is the decision), any shape.
        target: labels, -1 or +1, integers or floats in the shape of ``input``.
        reduction: "none", "sum" or "mean" (over all scores; of no scores it is NaN).

    Returns:
        The loss in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or the shape
        of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if the shapes differ, a label is neither -1 nor +1, or ``reduction`` is unknown.

    Example:
        >>> scores = torch.tensor([2.0, 0.5, -1.0])  # right by enough, right by too little, wrong
        >>> squared_hinge_loss(scores, torch.tensor([1, 1, 1]), reduction="none")
        tensor([0.0000, 0.2500, 4.0000])

    Reference:
        The soft margin with squared slack: C. Cortes and V. Vapnik, Support-Vector Networks, Machine Learning 20
        (1995), https://doi.org/10.1007/BF00994018.
    """
    _check_scores(input, target, reduction)
    _check_labels(target)
    loss = (1 - _signed_margin(input, target)).relu().square()
    return as_result(reduce(loss, reduction), input.dtype)


def soft_margin_loss(input: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    r"""Logistic loss for labels -1 and +1: a hinge without a kink, whose margin is never enough.

    For a score :math:`z` and a label :math:`y`:

    .. math:: \ell = \ln(1 + e^{-yz}),
              \qquad \frac{\partial\ell}{\partial z} = -y\,\sigma(-yz).

    This is the binary cross-entropy of the logit :math:`z`, with the labels -1 and +1 in place of 0 and 1. torch's
    formula overflows where :math:`e^{-yz}` does (in float32 at :math:`yz = -89`); ``softplus`` does not.

    Args:
        input: scores (log-odds, nats), any shape.
        target: labels, -1 or +1, integers or floats in the shape of ``input``. As in torch other numbers are taken
            as factors; a label 0 therefore costs a constant ln 2 and teaches nothing.
        reduction: "none", "sum" or "mean" (over all scores; of no scores it is NaN).

    Returns:
        The loss in nats in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or
        the shape of ``input`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit; boolean labels, which stand for 0 and 1, do not.
        ValueError: if the shapes differ or ``reduction`` is unknown.

    Example:
        >>> scores = torch.tensor([10.0, 0.0, -100.0])  # right, undecided, badly wrong
        >>> soft_margin_loss(scores, torch.tensor([1, 1, 1]), reduction="none")
        tensor([4.5399e-05, 6.9315e-01, 1.0000e+02])

    Reference:
        J. Friedman, T. Hastie and R. Tibshirani, Additive Logistic Regression: A Statistical View of Boosting, Ann.
        Statist. 28 (2000), https://doi.org/10.1214/aos/1016218223.
    """
    _check_scores(input, target, reduction)
    loss = softplus(-_signed_margin(input, target))
    return as_result(reduce(loss, reduction), input.dtype)


def multi_margin_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Multi-class hinge loss of Weston and Watkins: every other class must lose by the margin.

    For the scores :math:`z` of :math:`C` classes, the true class :math:`y` and the margin :math:`m`:

    .. math:: \ell = \frac{w_y}{C}\sum_{j \ne y} \max(0, m - z_y + z_j)^p,
       \qquad \frac{\partial\ell}{\partial z_j} = \frac{w_y\,p}{C}\max(0, m - z_y + z_j)^{p-1}\,[m - z_y + z_j > 0]

    for :math:`j \ne y`, and the derivative in :math:`z_y` is minus the sum of these. As in torch the sum is divided by
    the number of classes :math:`C`, though it has :math:`C - 1` terms and the paper divides by nothing.

    Args:
        input: scores (in units of the margin), shape (C,) or (N, C).
        target: class indices in [0, C), integers of shape () or (1,) for one sample and (N,) for N.
        p: the power, 1 or 2.
        margin: by how much the true class has to win.
        weight: a factor for each class, applied by the true class, shape (C,).
        reduction: "none", "sum" or "mean". The mean divides by the number of samples, not by their weights; of no
            samples it is NaN.

    Returns:
        The loss in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or the shape
        of ``target`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a class index, ``p``, ``margin`` or ``reduction`` does not fit.

    Example:
        >>> scores = torch.tensor([[3.0, 2.5, 2.5, 1.0]])  # right, but two classes come within 1
        >>> multi_margin_loss(scores, torch.tensor([0]))  # (0.5 + 0.5 + 0) / 4
        tensor(0.2500)

    Reference:
        J. Weston and C. Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999,
        https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf.
    """
    _check_classes(input, target, reduction)
    check_number("margin", margin, math.isfinite, "finite")
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p!r}")
    scores, index = _rows(input, target)
    classes = scores.shape[1]
    if weight is not None:
        _check_weight(weight, classes)
    violation = margin_excess(scores, scores.gather(1, index), margin).scatter(1, index, -torch.inf).relu()
    loss = (violation if p == 1 else violation.square()).sum(1) / classes
    if weight is not None:
        loss = loss * weight.to(loss.dtype)[index.squeeze(1)]
    return as_result(reduce(loss.reshape(target.shape), reduction), input.dtype)


def crammer_singer_loss(
    input: torch.Tensor, target: torch.Tensor, *, margin: float = 1.0, reduction: str = "mean"
) -> torch.Tensor:
    r"""Multi-class hinge loss of Crammer and Singer: the strongest other class must lose by the margin.

    For the scores :math:`z`, the true class :math:`y` and the margin :math:`m`:

    .. math:: \ell = \max\bigl(0,\; m - z_y + \max_{j \ne y} z_j\bigr),
              \qquad \frac{\partial\ell}{\partial z_y} = -[\ell > 0],
              \quad \frac{\partial\ell}{\partial z_{j^*}} = [\ell > 0]

    for the strongest rival :math:`j^*`; rivals that tie share the gradient. The maximum leaves the true class out: to
    set its score to 0 instead makes it a rival, and the strongest where all others are negative. For the scores
    (-4.5, -5, -7), the first class true, the loss would then be 5.5; it is 0.5.

    Args:
        input: scores (in units of the margin), shape (C,) or (N, C). With one class there is no rival: the loss is 0.
        target: class indices in [0, C), integers of shape () or (1,) for one sample and (N,) for N.
        margin: by how much the true class has to win, at least 0 (at 0 the loss is the perceptron's).
        reduction: "none", "sum" or "mean" (over the samples; of no samples it is NaN).

    Returns:
        The loss in the dtype of ``input`` (computed in float32 where that is a half precision): a scalar, or the shape
        of ``target`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit.
        ValueError: if a shape, a class index, ``margin`` or ``reduction`` does not fit.

    Example:
        >>> scores = torch.tensor([[-4.5, -5.0, -7.0]])  # right, but by 0.5 only
        >>> crammer_singer_loss(scores, torch.tensor([0]))
        tensor(0.5000)

    Reference:
        K. Crammer and Y. Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, JMLR 2
        (2001), https://www.jmlr.org/papers/v2/crammer01a.html.
    """
    _check_classes(input, target, reduction)
    check_number("margin", margin, math.isfinite, "finite")
    check_number("margin", margin, lambda m: m >= 0, "at least 0")
    scores, index = _rows(input, target)
    strongest_rival = scores.scatter(1, index, -torch.inf).amax(1)
    loss = margin_excess(strongest_rival, scores.gather(1, index).squeeze(1), margin).relu()
    return as_result(reduce(loss.reshape(target.shape), reduction), input.dtype)


def margin_ranking_loss(
    input1: torch.Tensor,
    input2: torch.Tensor,
    target: torch.Tensor,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    r"""Pairwise hinge: of two items the one that should come first must score higher, by a margin.

    For scores :math:`z_1, z_2`, the order :math:`y` (+1: the first should score higher, -1: the second) and the
    margin :math:`m`:

    .. math:: \ell = \max(0, m - y(z_1 - z_2)),
              \qquad \frac{\partial\ell}{\partial z_1} = -\frac{\partial\ell}{\partial z_2}
              = -y\,[m \ge y(z_1 - z_2)].

    At the kink the gradient is that of the sloping side, as in torch: with the default margin 0 two equal scores cost
    nothing and are still pulled apart.

    Args:
        input1: scores of the first items (in units of the margin), any shape.
        input2: scores of the second items, in the shape of ``input1``.
        target: which should score higher, +1 or -1, integers or floats in the shape of ``input1``. As in torch other
            numbers are taken as factors; a target 0 therefore costs the margin and teaches nothing.
        margin: by how much the item that should come first has to win.
        reduction: "none", "sum" or "mean" (over all pairs; of no pairs it is NaN).

    Returns:
        The loss in the dtype to which those of the two inputs promote (computed in float32 where that is a half
        precision): a scalar, or the shape of ``input1`` where ``reduction`` is "none".

    Raises:
        TypeError: if a dtype does not fit; a boolean ``target``, which stands for 0 and 1, does not.
        ValueError: if the shapes differ, or ``margin`` or ``reduction`` does not fit.

    Example:
        >>> better, worse = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.5])
        >>> margin_ranking_loss(better, worse, torch.tensor([1, 1]), margin=1.0, reduction="none")
        tensor([0.0000, 0.5000])

    Reference:
        R. Herbrich, T. Graepel and K. Obermayer, Support Vector Learning for Ordinal Regression, ICANN 1999,
        https://doi.org/10.1049/cp:19991091.
    """
    _check_pairs(input1, input2, target, reduction)
    check_number("margin", margin, math.isfinite, "finite")
    dtype = torch.promote_types(input1.dtype, input2.dtype)
    first, second = working_precision(input1.to(dtype)), working_precision(input2.to(dtype))
    target = target.to(first.dtype)
    leading, rest = split_float(margin, first.dtype)
    lead = first - second
    excess = leading - target * lead
    if margin:  # without a margin nothing can cancel
        excess = excess + (rest - target * rounded_off(lead.detach(), first.detach(), second.detach()))
    return as_result(reduce(excess.clamp(min=0), reduction), dtype)


def _signed_margin(input, target):
    """Return y z, positive where the decision is right."""
    scores = working_precision(input)
    return target.to(scores.dtype) * scores


def _rows(input, target):
    """Return the scores in working precision, shape (N, C), and the class indices, shape (N, 1)."""
    scores = working_precision(input)
    classes = input.shape[-1] if input.dim() else 1
    return scores.reshape(-1, classes), target.long().reshape(-1, 1)


def _check_scores(input, target, reduction):
    """Raise TypeError or ValueError unless ``target`` holds one number for each score."""
    check_reduction(reduction)
    check_floating("input", input)
    _check_numbers(target)
    check_same_shape(input, target)


def _check_pairs(input1, input2, target, reduction):
    """Raise TypeError or ValueError unless the three have one shape and hold numbers."""
    check_reduction(reduction)
    check_floating("input1", input1)
    check_floating("input2", input2)
    _check_numbers(target)
    if not input1.shape == input2.shape == target.shape:
        raise ValueError(
            f"input1, input2 and target must have the same shape, got {tuple(input1.shape)}, {tuple(input2.shape)} "
            f"and {tuple(target.shape)}"
        )


def _check_numbers(target):
    """Raise TypeError unless ``target`` is a tensor that can hold -1 and +1."""
    if not isinstance(target, torch.Tensor):
        raise TypeError(f"target must be a torch.Tensor, got {type(target).__name__}")
    if target.dtype == torch.bool or target.is_complex():
        raise TypeError(f"target must hold the numbers -1 and +1 (integers or floats), got {target.dtype}")


def _check_labels(target):
    """Raise ValueError unless every label is -1 or +1."""
    wrong = target.abs() != 1
    if any_true(wrong):
        raise ValueError(
            f"labels must be -1 or +1, got {target[wrong][0].item()}; 2 * target - 1 turns 0 and 1 into -1 and +1"
        )


def _check_classes(input, target, reduction):
    """Raise TypeError or ValueError unless ``target`` holds a class index for each row of ``input``."""
    check_reduction(reduction)
    check_floating("input", input)
    check_integers("target", target, "class indices")
    samples = input.shape[0] if input.dim() == 2 else 1
    classes = input.shape[-1] if input.dim() else 1
    if input.dim() > 2 or classes == 0:
        raise ValueError(f"input must have shape (C,) or (N, C) with at least one class, got {tuple(input.shape)}")
    if target.dim() > 1 or target.numel() != samples:
        wanted = "() or (1,)" if samples == 1 else f"({samples},)"
        raise ValueError(
            f"target for input of shape {tuple(input.shape)} must have shape {wanted}, got {tuple(target.shape)}"
        )
    check_class_indices(target, classes)


def _check_weight(weight, classes):
    """Raise TypeError or ValueError unless ``weight`` holds a factor for each class."""
    check_floating("weight", weight)
    if tuple(weight.shape) != (classes,):
        raise ValueError(f"weight must have one factor for each of the {classes} classes, got {tuple(weight.shape)}")
