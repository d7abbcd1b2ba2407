"""Losses for samples without labels, and their gradients: logits of shape (N, C)."""

import numpy as np

from lib.reference.classification import cross_entropy, cross_entropy_grad
from lib.reference.divergence import distillation_loss


def _below_the_likeliest(logits):
    """Return d = z - max z, where e^d is 0 anyway no lower than -1000, and e^d without and with the likeliest class."""
    below = np.maximum(logits - logits.max(1, keepdims=True), -1000.0)
    odds = np.exp(below)
    rivals = odds.copy()
    rivals[np.arange(len(logits)), logits.argmax(1)] = 0
    return below, rivals, odds


def _softmax(logits):
    odds = _below_the_likeliest(logits)[2]
    return odds / odds.sum(1, keepdims=True)


def entropy_loss(input):
    """log(1 + R) - sum_j p_j d_j, d = z - max z, R the sum of e^d_j without the likeliest class."""
    below, rivals, odds = _below_the_likeliest(np.float64(input))
    return np.log1p(rivals.sum(1)) - (rivals * below).sum(1) / odds.sum(1)


def entropy_loss_grad(input):
    """p_j (sum_k p_k d_k - d_j)."""
    below, _, odds = _below_the_likeliest(np.float64(input))
    p = odds / odds.sum(1, keepdims=True)
    return p * ((p * below).sum(1, keepdims=True) - below)


def pseudo_label_loss(input, target, *, threshold=0.95):
    """[max q >= c] cross_entropy(z, argmax q), q = softmax(t)."""
    believed, label, otherwise = _believed(np.float64(target), threshold)
    return np.where(believed, cross_entropy(np.float64(input), label), otherwise)


def pseudo_label_loss_grad(input, target, *, threshold=0.95):
    """[max q >= c] (p - [j = argmax q]), in z, p = softmax(z)."""
    believed, label, otherwise = _believed(np.float64(target), threshold)
    return np.where(believed[:, None], cross_entropy_grad(np.float64(input), label), otherwise[:, None])


def _believed(logits, threshold):
    """Return whether max q reaches the threshold: R c <= 1 - c; whose it is; and else 0, NaN where q is none."""
    lost = ~np.isfinite(logits.max(1))
    rivals = _below_the_likeliest(np.where(lost[:, None], 0.0, logits))[1]
    believed = ~lost & (rivals.sum(1) * threshold <= 1 - threshold)
    return believed, logits.argmax(1), np.where(lost, np.nan, 0.0)


def consistency_loss(input, target, *, kind="mse"):
    """sum_j (p_j - q_j)^2 / C, p = softmax(z), q = softmax(t); kl sum_j q_j log(q_j / p_j)."""
    student, teacher = np.float64(input), np.float64(target)
    if kind == "kl":
        return distillation_loss(student, teacher, teacher.argmax(1), temperature=1.0, weight=1.0)
    return (_difference(student, teacher) ** 2).mean(1)


def consistency_loss_grad(input, target, *, kind="mse"):
    """2 p_j (p_j - q_j - sum_k p_k (p_k - q_k)) / C; kl p - q; in z."""
    difference = _difference(np.float64(input), np.float64(target))
    if kind == "kl":
        return difference
    p = _softmax(np.float64(input))
    top = p.argmax(1)[:, None]
    # from the likeliest class on, so that its own derivative, which is minus the sum of the others', does not cancel
    force = difference - np.take_along_axis(difference, top, 1)
    return 2 * p * (force - (p * force).sum(1, keepdims=True)) / p.shape[1]


def _difference(student, teacher):
    """Return p - q, where they are near from p = q e^w s: w is the change of a logit, s = p / q of the likeliest."""
    p, q = _softmax(student), _softmax(teacher)
    top = teacher.argmax(1)[:, None]
    change = student - teacher
    change = change - np.take_along_axis(change, top, 1)
    near = abs(change) < 1
    scale = np.take_along_axis(p, top, 1) / np.take_along_axis(q, top, 1)
    gain = np.where(near, q * scale * np.expm1(np.where(near, change, 0.0)), p - q * scale)
    return np.where(near, gain - q * gain.sum(1, keepdims=True), p - q)
