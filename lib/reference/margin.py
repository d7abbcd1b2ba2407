"""Losses that ask for a margin, in NumPy: the twins of ``lib.losses.margin``."""

import numpy as np


def hinge_loss(input, target):
    r"""Return :math:`\max(0, 1 - yz)`."""
    z, y = _doubles(input, target)
    return np.maximum(0.0, 1 - y * z)


def hinge_loss_grad(input, target):
    r"""Return :math:`-y\,[yz < 1]`."""
    z, y = _doubles(input, target)
    return np.where(y * z < 1, -y, 0.0)


def squared_hinge_loss(input, target):
    r"""Return :math:`\max(0, 1 - yz)^2`."""
    return hinge_loss(input, target) ** 2


def squared_hinge_loss_grad(input, target):
    r"""Return :math:`-2y\max(0, 1 - yz)`."""
    return 2 * hinge_loss(input, target) * hinge_loss_grad(input, target)


def soft_margin_loss(input, target):
    r"""Return :math:`\ln(1 + e^{-yz})`."""
    z, y = _doubles(input, target)
    return np.logaddexp(0.0, -y * z)


def soft_margin_loss_grad(input, target):
    r"""Return :math:`-y\,\sigma(-yz)`, the sigmoid as :math:`\exp(-\ln(1 + e^{yz}))`, which does not overflow."""
    z, y = _doubles(input, target)
    return -y * np.exp(-np.logaddexp(0.0, y * z))


def multi_margin_loss(input, target, *, p=1, margin=1.0, weight=None):
    r"""Return :math:`\frac{w_y}{C}\sum_{j \ne y} \max(0, m - (z_y - z_j))^p`."""
    violation, factor, _ = _violation(input, target, margin, weight)
    return (factor * violation**p).sum(-1)


def multi_margin_loss_grad(input, target, *, p=1, margin=1.0, weight=None):
    r"""Return :math:`\frac{w_y\,p}{C}\max(0, m - (z_y - z_j))^{p-1}\,[m > z_y - z_j]`, for y minus the others' sum."""
    violation, factor, index = _violation(input, target, margin, weight)
    grad = factor * p * violation ** (p - 1) * (violation > 0)
    np.put_along_axis(grad, index, -grad.sum(-1, keepdims=True), -1)
    return grad


def crammer_singer_loss(input, target, *, margin=1.0):
    r"""Return :math:`\max(0, m - (z_y - \max_{j \ne y} z_j))`."""
    z, index = _scores(input, target)
    strongest = _without_truth(z, index).max(-1, keepdims=True)
    truth = np.take_along_axis(z, index, -1)
    return np.maximum(0.0, margin - (truth - strongest)).squeeze(-1)


def crammer_singer_loss_grad(input, target, *, margin=1.0):
    r"""Return :math:`[\ell > 0]` for the strongest rival (shared by those that tie), minus that for the true class."""
    z, index = _scores(input, target)
    rivals = _without_truth(z, index)
    strongest = rivals == rivals.max(-1, keepdims=True)
    grad = strongest / strongest.sum(-1, keepdims=True)
    np.put_along_axis(grad, index, -1.0, -1)
    return grad * (crammer_singer_loss(input, target, margin=margin) > 0)[..., None]


def margin_ranking_loss(input1, input2, target, *, margin=0.0):
    r"""Return :math:`\max(0, m - y(z_1 - z_2))`."""
    z1, z2, y = _doubles(input1, input2, target)
    return np.maximum(0.0, margin - y * (z1 - z2))


def margin_ranking_loss_grad(input1, input2, target, *, margin=0.0):
    r"""Return :math:`-y\,[m \ge y(z_1 - z_2)]` and its negative: the derivatives in both inputs."""
    z1, z2, y = _doubles(input1, input2, target)
    grad = np.where(margin - y * (z1 - z2) >= 0, -y, 0.0)
    return grad, -grad


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)


def _scores(input, target):
    """Return the scores in float64, shape (..., C), and the class indices, shape (..., 1)."""
    return np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.int64)[..., None]


def _without_truth(z, index):
    """Return the scores with that of the true class at minus infinity."""
    rivals = z.copy()
    np.put_along_axis(rivals, index, -np.inf, -1)
    return rivals


def _violation(input, target, margin, weight):
    """Return what each rival lacks to lose by the margin (0 for the true class), the factor w_y / C, and the index."""
    z, index = _scores(input, target)
    truth = np.take_along_axis(z, index, -1)
    violation = np.maximum(0.0, margin - (truth - _without_truth(z, index)))
    factor = 1.0 if weight is None else np.asarray(weight, dtype=np.float64)[index]
    return violation, factor / z.shape[-1], index
