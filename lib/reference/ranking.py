"""Losses that learn an order, in NumPy: the twins of ``lib.losses.ranking``."""

import numpy as np


def bpr_loss(input, target):
    r"""Return :math:`\ln(1 + e^{z_j - z_i})` of chosen items (N,) and others, (N,) or (N, K)."""
    return np.logaddexp(0.0, _deficit(input, target))


def bpr_loss_grad(input, target):
    r"""Return :math:`-\sigma(z_j - z_i)`, summed over the others, and :math:`\sigma(z_j - z_i)`."""
    slope = np.exp(-np.logaddexp(0.0, -_deficit(input, target)))
    return -slope.reshape(len(slope), -1).sum(1), slope


def sampled_softmax_loss(input, target, *, input_log_q=None, target_log_q=None, accidental_hits=None):
    r"""Return :math:`\ln(1 + \sum_j e^{d_j})`, where :math:`d_j = (z_j - \ln c_j) - (z_y - \ln c_y)`."""
    lead = _lead(input, target, input_log_q, target_log_q, accidental_hits)
    return np.logaddexp(0.0, np.logaddexp.reduce(lead, axis=1))


def sampled_softmax_loss_grad(input, target, *, input_log_q=None, target_log_q=None, accidental_hits=None):
    r"""Return minus the sum over the samples, and :math:`e^{d_j} / (1 + \sum_k e^{d_k})`."""
    lead = _lead(input, target, input_log_q, target_log_q, accidental_hits)
    slope = np.exp(lead - np.logaddexp(0.0, np.logaddexp.reduce(lead, axis=1))[:, None])
    return -slope.sum(1), slope


def listwise_softmax_loss(input, target, *, mask=None, softmax_target=True):
    r"""Return :math:`-\sum_j q_j \ln \operatorname{softmax}(z)_j`, and 0 for a list that does not count."""
    q, log_p = _distributions(input, target, mask, softmax_target)
    return -(q * np.where(q == 0, 0.0, log_p)).sum(-1)


def listwise_softmax_loss_grad(input, target, *, mask=None, softmax_target=True):
    r"""Return :math:`\operatorname{softmax}(z) - q`, and 0 for padding and for a list that does not count."""
    q, log_p = _distributions(input, target, mask, softmax_target)
    return np.where(q.any(-1, keepdims=True), np.exp(log_p) - q, 0.0)


def _deficit(input, target):
    """Return the score of each other item minus that of the chosen one, in the shape of the others."""
    chosen, other = np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.float64)
    return other - chosen.reshape(chosen.shape + (1,) * (other.ndim - chosen.ndim))


def _lead(input, target, input_log_q, target_log_q, accidental_hits):
    """Return the corrected score of each sample minus that of the true item; -inf where a sample does not count."""
    truth = np.asarray(input, dtype=np.float64) - (0.0 if input_log_q is None else input_log_q)
    samples = np.asarray(target, dtype=np.float64) - (0.0 if target_log_q is None else target_log_q)
    return np.where(False if accidental_hits is None else accidental_hits, -np.inf, samples - truth[:, None])


def _distributions(input, target, mask, softmax_target):
    """Return the chances to be first by relevance, zeros in a list that does not count, and their logs by score."""
    scores, relevance = np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.float64)
    items = np.ones(scores.shape, dtype=bool) if mask is None else np.asarray(mask)
    if softmax_target:
        q = np.exp(_log_softmax(relevance, items))
    else:
        relevance = np.where(items, relevance, 0.0)
        total = relevance.sum(-1, keepdims=True)
        q = relevance / np.where(total == 0, 1.0, total)
    return q, _log_softmax(scores, items)


def _log_softmax(x, items):
    """Return the logarithm of the softmax over the items, -inf elsewhere."""
    x = np.where(items, x, -np.inf)
    shifted = x - np.where(items.any(-1), x.max(-1), 0.0)[..., None]
    norm = np.logaddexp.reduce(shifted, axis=-1)
    return shifted - np.where(items.any(-1), norm, 0.0)[..., None]
