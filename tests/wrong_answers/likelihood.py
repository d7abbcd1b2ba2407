"""Typical wrong answers to the exercises on likelihood, each with words of the property that names it."""

import math

import torch
from torch.nn.functional import softplus


def terms(m, v, n, w):
    """Return the divergence of each dimension."""
    return ((v - w).exp() + (m - n) ** 2 * (-w).exp() - 1 - v + w) / 2


def logits(d, n, u):
    """Return the logits of data and of noise."""
    shift = u - math.log(len(n) / len(d))
    return d + shift, n + shift


def sum_of_costs(d, n):
    return softplus(-d).sum() + softplus(n).sum()


def mean_of_costs(d, n):
    return sum_of_costs(d, n) / (len(d) + len(n))


def with_sigmoid(d, n, u):
    d, n = logits(d, n, u)
    return -(torch.cat([d.sigmoid(), 1 - n.sigmoid()]).log().mean())


WRONG = {
    "gaussian_divergence": {
        "sign: of the logarithms": (
            lambda m, v, n, w: (((v - w).exp() + (m - n) ** 2 * (-w).exp() - 1 + v - w) / 2).sum(1),
            "Never below zero",
        ),
        "sign: the negative of it": (lambda m, v, n, w: -terms(m, v, n, w).sum(1), "Never below zero"),
        "factor: no half": (lambda m, v, n, w: 2 * terms(m, v, n, w).sum(1), "0.3181"),
        "factor: log-variances for log-deviations": (
            lambda m, v, n, w: (w - v + ((v - w).exp() + (m - n) ** 2 * (-w).exp() - 1) / 2).sum(1),
            "Never below zero",
        ),
        "axis: not summed": (lambda m, v, n, w: terms(m, v, n, w), "each row"),
        "axis: summed over the rows": (lambda m, v, n, w: terms(m, v, n, w).sum(0), "each row"),
        "axis: averaged over the dimensions": (lambda m, v, n, w: terms(m, v, n, w).mean(1), "gaussian_kl"),
        "swapped": (lambda m, v, n, w: terms(n, w, m, v).sum(1), "0.3181"),
        "the one is missing": (lambda m, v, n, w: (terms(m, v, n, w) + 0.5).sum(1), "and itself"),
        "square not divided": (
            lambda m, v, n, w: (((v - w).exp() + (m - n) ** 2 - 1 - v + w) / 2).sum(1),
            "unit ten times smaller",
        ),
        "square divided by the first variance": (
            lambda m, v, n, w: (((v - w).exp() + (m - n) ** 2 * (-v).exp() - 1 - v + w) / 2).sum(1),
            "gaussian_kl",
        ),
    },
    "noise_contrastive_loss": {
        "sign: labels exchanged": (
            lambda d, n, u: mean_of_costs(*(-z for z in logits(d, n, u))),
            "Smaller when the data",
        ),
        "sign: noise counted as data": (
            lambda d, n, u: softplus(-torch.cat(logits(d, n, u))).mean(),
            "Smaller when the data",
        ),
        "sign: u subtracted": (lambda d, n, u: mean_of_costs(*logits(d, n, -u)), "ln 2"),
        "sign: the ratio added": (
            lambda d, n, u: mean_of_costs(*(z + 2 * math.log(len(n) / len(d)) for z in logits(d, n, u))),
            "Least at u = 0",
        ),
        "factor: summed": (lambda d, n, u: sum_of_costs(*logits(d, n, u)), "ln 2"),
        "factor: divided by the data alone": (lambda d, n, u: sum_of_costs(*logits(d, n, u)) / len(d), "ln 2"),
        "factor: a mean for each kind": (
            lambda d, n, u: (softplus(-logits(d, n, u)[0]).mean() + softplus(logits(d, n, u)[1]).mean()) / 2,
            "Least at u = 0",
        ),
        "axis: one for each sample": (
            lambda d, n, u: torch.cat([softplus(-logits(d, n, u)[0]), softplus(logits(d, n, u)[1])]),
            "without a shape",
        ),
        "no ratio": (lambda d, n, u: mean_of_costs(d + u, n + u), "Least at u = 0"),
        "u for the data only": (
            lambda d, n, u: mean_of_costs(logits(d, n, u)[0], logits(d, n, 0.0)[1]),
            "ln 2",
        ),
        "overflow": (with_sigmoid, "in the thousands"),
    },
}
