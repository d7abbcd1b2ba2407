"""Losses for choosing one class among several, in NumPy."""

import numpy as np


def cross_entropy(input, target):
    """Log loss of logits (N, C) for class indices (N,): log(1 + sum over the rivals of exp(rival - truth)), (N,)."""
    input, rows = np.float64(input), np.arange(len(target))
    rivals = input - input[rows, target][:, None]
    rivals[rows, target] = -np.inf
    return np.logaddexp(0.0, np.logaddexp.reduce(rivals, axis=1))


def cross_entropy_grad(input, target):
    """Derivative of the sum: softmax - one-hot, (N, C); at the truth minus the sum of the others, which is exact."""
    input, rows = np.float64(input), np.arange(len(target))
    exponentials = np.exp(input - input.max(axis=1, keepdims=True))
    gradient = exponentials / exponentials.sum(axis=1, keepdims=True)
    gradient[rows, target] = 0.0
    gradient[rows, target] = -gradient.sum(axis=1)
    return gradient
