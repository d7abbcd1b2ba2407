"""Several losses at once, in NumPy: the twins of ``lib.losses.composite``. The terms are vectors, without names."""

import numpy as np


def weighted_sum(terms, weights):
    r"""Return :math:`\sum_k w_k L_k`, without the terms of weight 0."""
    terms, weights = _doubles(terms, weights)
    return np.sum(weights * np.where(weights == 0, 0.0, terms))


def weighted_sum_grad(terms, weights):
    r"""Return :math:`w_k`."""
    return _doubles(weights)[0].copy()


def uncertainty_weighting(terms, log_variances):
    r"""Return :math:`\tfrac12 \sum_k (e^{-s_k} L_k + s_k)`."""
    terms, s = _doubles(terms, log_variances)
    return 0.5 * np.sum(_over_variance(terms, s) + s)


def uncertainty_weighting_grad(terms, log_variances):
    r"""Return :math:`\tfrac12 e^{-s_k}` and :math:`\tfrac12 (1 - e^{-s_k} L_k)`: the derivatives in both arguments."""
    terms, s = _doubles(terms, log_variances)
    return 0.5 * np.exp(-s), 0.5 * (1 - _over_variance(terms, s))


def gradnorm_weights(weights, gradient_norms, terms, first_terms, *, alpha=1.5, rate=0.1):
    r"""Return :math:`c\, w_k (\bar G\, r_k^\alpha / G_k)^\rho`, which add up to their number.

    ``gradient_norms`` are those of the unweighted terms, :math:`G_k / w_k`; all must be positive, like the terms.
    """
    weights, norms, terms, first_terms = _doubles(weights, gradient_norms, terms, first_terms)
    weighted_norms = weights * norms
    left = terms / first_terms
    target = weighted_norms.mean() * (left / left.mean()) ** alpha
    moved = weights * (target / weighted_norms) ** rate
    return len(moved) * moved / moved.sum()


def _over_variance(terms, s):
    """Return the terms over their variances, 0 of 0 whatever the variance."""
    return np.exp(-np.where(terms == 0, 0.0, s)) * terms


def _doubles(*arrays):
    """Return the arrays in float64."""
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)
