"""Penalties on the size of parameters, and their gradients: of one array, or of a list of arrays."""

import numpy as np


def _arrays(parameters):
    return [np.float64(w) for w in (parameters if isinstance(parameters, list | tuple) else [parameters])]


def _like(parameters, gradients):
    return tuple(gradients) if isinstance(parameters, list | tuple) else gradients[0]


def l1_penalty(parameters):
    """sum_i |w_i|."""
    return sum((abs(w).sum() for w in _arrays(parameters)), np.float64(0))


def l1_penalty_grad(parameters):
    """sign(w)."""
    return _like(parameters, [np.sign(w) for w in _arrays(parameters)])


def l2_penalty(parameters):
    """sum_i w_i^2."""
    return sum(((w * w).sum() for w in _arrays(parameters)), np.float64(0))


def l2_penalty_grad(parameters):
    """2 w."""
    return _like(parameters, [2 * w for w in _arrays(parameters)])


def elastic_net_penalty(parameters, *, l1_ratio=0.5):
    """sum_i (rho |w_i| + (1 - rho) w_i^2)."""
    return l1_ratio * l1_penalty(parameters) + (1 - l1_ratio) * l2_penalty(parameters)


def elastic_net_penalty_grad(parameters, *, l1_ratio=0.5):
    """2 (1 - rho) w + rho sign(w)."""
    return _like(parameters, [l1_ratio * np.sign(w) + 2 * (1 - l1_ratio) * w for w in _arrays(parameters)])
