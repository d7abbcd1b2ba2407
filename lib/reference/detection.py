"""Losses for finding objects, in NumPy: the twins of ``lib.losses.detection``. Boxes must have an area here."""

from typing import NamedTuple

import numpy as np


def iou_loss(input, target):
    r"""Return :math:`1 - I/U`, as :math:`((A - I) + (B - I))/U`."""
    pair = _compare(input, target)
    return (pair.input_rest + pair.target_rest) / pair.union


def iou_loss_grad(input, target):
    r"""Return :math:`I h_A/U^2` for an edge that sticks out, :math:`-h_I(B + h_A(w_A - w_I))/U^2` for one within."""
    pair = _compare(input, target)
    return _edges(pair, *_iou_slopes(pair))


def giou_loss(input, target):
    r"""Return :math:`1 - I/U + (C - U)/C`, with :math:`C - U` as gaps between the boxes and corners of neither."""
    pair = _compare(input, target)
    joint_width = pair.input[..., 0] + pair.target_only[..., 0]
    empty = pair.gap[..., 0] * pair.extent[..., 1] + joint_width * pair.gap[..., 1]
    empty += (pair.input_only * pair.target_only[..., ::-1]).sum(-1)
    return iou_loss(input, target) + empty / pair.extent.prod(-1)


def giou_loss_grad(input, target):
    r"""Return that of the IoU plus :math:`(U\,dC - C\,dU)/C^2`: the enclosing box grows with edges that stick out."""
    pair = _compare(input, target)
    cost, gain = _iou_slopes(pair)
    across, enclosing = pair.input[..., ::-1], pair.extent.prod(-1)[..., None]
    cost += (pair.target_rest[..., None] - across * (pair.extent - pair.input)) / (pair.extent * enclosing)
    gain += np.where(pair.meet, pair.input_only[..., ::-1], across) / enclosing
    return _edges(pair, cost, gain)


def diou_loss(input, target):
    r"""Return :math:`1 - I/U + \rho^2/c^2`, the squared distance of the centres over that of two far corners."""
    pair = _compare(input, target)
    return iou_loss(input, target) + (pair.offset**2).sum(-1) / (pair.extent**2).sum(-1)


def diou_loss_grad(input, target):
    r"""Return that of the IoU plus :math:`(\rho_x, \rho_x)/c^2` for x1 and x2, less :math:`\rho^2\,dc^2/c^4`."""
    pair = _compare(input, target)
    diagonal = (pair.extent**2).sum(-1, keepdims=True)
    cost, gain = _iou_slopes(pair)
    cost -= 2 * (pair.offset**2).sum(-1, keepdims=True) / diagonal * (pair.extent / diagonal)
    return _edges(pair, cost, gain) + np.concatenate([pair.offset, pair.offset], -1) / diagonal


def ciou_loss(input, target):
    r"""Return :math:`1 - I/U + \rho^2/c^2 + \alpha v`, where :math:`\alpha = v/(1 - I/U + v)`."""
    alpha, v, _ = _proportions(input, target)
    return diou_loss(input, target) + alpha * v


def ciou_loss_grad(input, target):
    r"""Return that of the DIoU plus :math:`\alpha\,dv`: as in the paper :math:`\alpha` counts as a constant."""
    alpha, _, slope = _proportions(input, target)
    return diou_loss_grad(input, target) + alpha[..., None] * np.concatenate([-slope, slope], -1)


def dice_loss(input, target, *, smooth=1.0, ignore_index=-100):
    r"""Return :math:`1 - (2\sum pt + s)/(\sum p + \sum t + s)`, one number for each sample and class."""
    return tversky_loss(input, target, smooth=smooth / 2, ignore_index=ignore_index)


def dice_loss_grad(input, target, *, smooth=1.0, ignore_index=-100):
    r"""Return :math:`(1 - \ell - 2t)/(\sum p + \sum t + s)` times the derivative of sigmoid or softmax."""
    return tversky_loss_grad(input, target, smooth=smooth / 2, ignore_index=ignore_index)


def tversky_loss(input, target, *, alpha=0.5, beta=0.5, smooth=1.0, ignore_index=-100):
    r"""Return :math:`(\alpha F_+ + \beta F_-)/(T + \alpha F_+ + \beta F_- + s)`, one for each sample and class."""
    p, rest, t = _masks(input, target, ignore_index)
    right, wrong = _count(p * t) + smooth, alpha * _count(p * (1 - t)) + beta * _count(rest * t)
    return (wrong / (right + wrong)).reshape(p.shape[:2])


def tversky_loss_grad(input, target, *, alpha=0.5, beta=0.5, smooth=1.0, ignore_index=-100):
    r"""Return :math:`(\alpha(1 - t)(T + s) - t(\beta(T + s) + E))/D^2` times the derivative of sigmoid or softmax.

    E stands for the errors, the loss's numerator, and D for its denominator.
    """
    p, rest, t = _masks(input, target, ignore_index)
    right, wrong = _count(p * t) + smooth, alpha * _count(p * (1 - t)) + beta * _count(rest * t)
    slope = (alpha * (1 - t) * right - t * (beta * right + wrong)) / (right + wrong) ** 2
    if np.shape(target) == p.shape:
        return p * rest * slope
    likeliest = p.argmax(1)[:, None]  # differences from its slope: its own term, which would cancel, is 0
    slope -= np.take_along_axis(slope, likeliest, 1)
    return p * (slope - (p * slope).sum(1, keepdims=True))


class _Pair(NamedTuple):
    """Two boxes axis by axis, arrays (..., 2): how far edges stick out, sizes, and what the boxes share."""

    low: np.ndarray
    high: np.ndarray
    input: np.ndarray
    target: np.ndarray
    shared: np.ndarray
    input_only: np.ndarray
    target_only: np.ndarray
    extent: np.ndarray
    gap: np.ndarray
    meet: np.ndarray

    @property
    def input_rest(self):
        """Area of the input outside the intersection."""
        return self.input[..., 0] * self.input_only[..., 1] + self.input_only[..., 0] * self.shared[..., 1]

    @property
    def target_rest(self):
        """Area of the target outside the intersection."""
        return self.target[..., 0] * self.target_only[..., 1] + self.target_only[..., 0] * self.shared[..., 1]

    @property
    def union(self):
        """Area of the union."""
        return self.shared.prod(-1) + self.input_rest + self.target_rest

    @property
    def offset(self):
        """From the centre of the target to that of the input."""
        return (self.high - self.low) / 2


def _compare(input, target):
    a, b = np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.float64)
    low, high = b[..., :2] - a[..., :2], a[..., 2:] - b[..., 2:]
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    a_out, b_out = np.maximum(low, 0) + np.maximum(high, 0), np.maximum(-low, 0) + np.maximum(-high, 0)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    only = np.minimum(size_a, a_out), np.minimum(size_b, b_out)
    shared, gap = np.maximum(overlap, 0), np.maximum(-overlap, 0)
    return _Pair(low, high, size_a, size_b, shared, *only, size_a + b_out, gap, overlap >= 0)


def _iou_slopes(pair):
    """Return what moving an edge outwards costs where it sticks out, and gains where it lies within."""
    across, union = pair.input[..., ::-1], pair.union[..., None]
    cost = pair.shared.prod(-1)[..., None] * across / union**2
    b = pair.target.prod(-1)[..., None]
    return cost, pair.meet * pair.shared[..., ::-1] * (b + across * pair.input_only) / union**2


def _edges(pair, cost, gain):
    """Return the derivative in x1, y1, x2, y2; where two edges coincide, the mean of both sides."""
    low, high = (
        np.where(sticks_out > 0, cost, np.where(sticks_out < 0, -gain, (cost - gain) / 2))
        for sticks_out in (pair.low, pair.high)
    )
    return np.concatenate([-low, high], -1)


def _proportions(input, target):
    """Return alpha, v, and the derivative of v in width and height of the input."""
    pair = _compare(input, target)
    w, h = pair.input[..., 0], pair.input[..., 1]
    difference = np.arctan2(pair.target[..., 0], pair.target[..., 1]) - np.arctan2(w, h)
    v = (2 / np.pi * difference) ** 2
    total = iou_loss(input, target) + v
    alpha = np.divide(v, total, out=np.zeros_like(v), where=total > 0)
    turn = np.stack([h, -w], -1) / (w**2 + h**2)[..., None]
    return alpha, v, -8 / np.pi**2 * difference[..., None] * turn


def _masks(input, target, ignore_index):
    """Return the probabilities p, 1 - p as far as it is needed, and the masks."""
    x, target = np.asarray(input, dtype=np.float64), np.asarray(target)
    if target.shape == x.shape:
        return np.exp(-np.logaddexp(0, -x)), np.exp(-np.logaddexp(0, x)), target.astype(np.float64)
    classes = np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))
    t = (target[:, None] == classes).astype(np.float64)
    counted = target[:, None] != ignore_index
    x = np.where(counted, x, 0.0)
    p = np.exp(x - x.max(1, keepdims=True))
    p *= counted / p.sum(1, keepdims=True)
    return p, (p * (1 - t)).sum(1, keepdims=True), t


def _count(values):
    """Return the sum over all pixels of one class, in a shape that broadcasts against them."""
    return values.sum(tuple(range(2, values.ndim)), keepdims=True)
