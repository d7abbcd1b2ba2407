"""Losses at a scale where the plain formula does not fit, in NumPy and by the plain formula."""

import numpy as np

from lib.reference.classification import cross_entropy, cross_entropy_grad


def linear_cross_entropy(hidden, weight, target, *, bias=0.0, label_smoothing=0.0):
    """Cross-entropy of the logits z = hidden weight^T + bias, plus label_smoothing (z_target - mean z), (N,)."""
    logits = hidden @ weight.T + bias
    advantage = logits[np.arange(len(target)), target] - logits.mean(axis=1)
    return cross_entropy(logits, target) + label_smoothing * advantage


def linear_cross_entropy_grad(hidden, weight, target, *, bias=0.0, label_smoothing=0.0):
    """Derivatives of the sum, with g that in the logits: g weight, g^T hidden and the sum of g over the rows."""
    logits = hidden @ weight.T + bias
    one_hot = np.eye(len(weight))[target]
    g = cross_entropy_grad(logits, target) + label_smoothing * (one_hot - 1 / len(weight))
    return g @ weight, g.T @ hidden, g.sum(axis=0)
