"""Losses that ask for a margin, in NumPy: the twins of ``lib.losses.margin``."""

import numpy as np


def hinge_loss(input, target):
    r"""Return :math:`\max(0, 1 - yx)`."""
    x, y = _doubles(input, target)
    return np.maximum(0.0, 1 - y * x)


def hinge_loss_grad(input, target):
    r"""Return :math:`-y\,[yx < 1]`."""
    x, y = _doubles(input, target)
    return np.where(y * x < 1, -y, 0.0)


def squared_hinge_loss(input, target):
    r"""Return :math:`\max(0, 1 - yx)^2`."""
    return hinge_loss(input, target) ** 2


def squared_hinge_loss_grad(input, target):
    r"""Return :math:`-2y\max(0, 1 - yx)`."""
    return 2 * hinge_loss(input, target) * hinge_loss_grad(input, target)


def soft_margin_loss(input, target):
    r"""Return :math:`\log(1 + e^{-yx})`."""
    x, y = _doubles(input, target)
    return np.logaddexp(0.0, -y * x)


def soft_margin_loss_grad(input, target):
    r"""Return :math:`-y\,\sigma(-yx)`, the sigmoid as :math:`\exp(-\log(1 + e^{yx}))`, which does not overflow."""
    x, y = _doubles(input, target)
    return -y * np.exp(-np.logaddexp(0.0, y * x))


def multi_margin_loss(input, target, *, p=1, margin=1.0, weight=None):
    r"""Return :math:`\frac{w_y}{C}\sum_{j \ne y} \max(0, m - (x_y - x_j))^p`."""
    violation, factor, _ = _violation(input, target, margin, weight)
    return (factor * violation**p).sum(-1)


def multi_margin_loss_grad(input, target, *, p=1, margin=1.0, weight=None):
    r"""Return :math:`\frac{w_y\,p}{C}\max(0, m - (x_y - x_j))^{p-1}\,[m > x_y - x_j]`, for y minus the others' sum."""
    violation, factor, index = _violation(input, target, margin, weight)
    grad = factor * p * violation ** (p - 1) * (violation > 0)
    np.put_along_axis(grad, index, -grad.sum(-1, keepdims=True), -1)
    return grad


def crammer_singer_loss(input, target, *, margin=1.0):
    r"""Return :math:`\max(0, m - (x_y - \max_{j \ne y} x_j))`."""
    x, index = _scores(input, target)
    strongest = _without_truth(x, index).max(-1, keepdims=True)
    truth = np.take_along_axis(x, index, -1)
    return np.maximum(0.0, margin - (truth - strongest)).squeeze(-1)


def crammer_singer_loss_grad(input, target, *, margin=1.0):
    r"""Return :math:`[\ell > 0]` for the strongest rival (shared by those that tie), minus that for the true class."""
    x, index = _scores(input, target)
    rivals = _without_truth(x, index)
    strongest = rivals == rivals.max(-1, keepdims=True)
    grad = strongest / strongest.sum(-1, keepdims=True)
    np.put_along_axis(grad, index, -1.0, -1)
    return grad * (crammer_singer_loss(input, target, margin=margin) > 0)[..., None]


def margin_ranking_loss(input1, input2, target, *, margin=0.0):
    r"""Return :math:`\max(0, m - y(x_1 - x_2))`."""
    x1, x2, y = _doubles(input1, input2, target)
    return np.maximum(0.0, margin - y * (x1 - x2))


def margin_ranking_loss_grad(input1, input2, target, *, margin=0.0):
    r"""Return :math:`-y\,[m \ge y(x_1 - x_2)]` and its negative: the derivatives in both inputs."""
    x1, x2, y = _doubles(input1, input2, target)
    grad = np.where(margin - y * (x1 - x2) >= 0, -y, 0.0)
    return grad, -grad


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)


def _scores(input, target):
    """Return the scores in float64, shape (..., C), and the class indices, shape (..., 1)."""
    return np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.int64)[..., None]


def _without_truth(x, index):
    """Return the scores with that of the true class at minus infinity."""
    rivals = x.copy()
    np.put_along_axis(rivals, index, -np.inf, -1)
    return rivals


def _violation(input, target, margin, weight):
    """Return what each rival lacks to lose by the margin (0 for the true class), the factor w_y / C, and the index."""
    x, index = _scores(input, target)
    truth = np.take_along_axis(x, index, -1)
    violation = np.maximum(0.0, margin - (truth - _without_truth(x, index)))
    factor = 1.0 if weight is None else np.asarray(weight, dtype=np.float64)[index]
    return violation, factor / x.shape[-1], index
