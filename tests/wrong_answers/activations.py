"""Typical wrong answers to the exercises on activations, each with words of the property that names it."""

import math

import torch
from torch.nn.functional import softplus


def log_cosh(z):
    return z.abs() + softplus(-2 * z.abs()) - math.log(2)


def constant(y):
    return (torch.xlogy(1 + y, 1 + y) + torch.xlogy(1 - y, 1 - y)) / 2


WRONG = {
    "gain_of_two_slopes": {
        "sign: slopes added before they are squared": (
            lambda below, above: 2 / (below + above).abs(),
            "square has no sign",
        ),
        "sign: slopes added, not squared": (
            lambda below, above: (2 / (below.abs() + above.abs())).sqrt(),
            "Half as large",
        ),
        "factor: half forgotten": (lambda below, above: 1 / (below**2 + above**2).sqrt(), "slopes 1 and 1"),
        "factor: no root": (lambda below, above: 2 / (below**2 + above**2), "Half as large"),
        "upside down": (lambda below, above: ((below**2 + above**2) / 2).sqrt(), "Half as large"),
        "He's gain whatever the slope below": (
            lambda below, above: math.sqrt(2) / above.abs() + 0 * below,
            "slopes 1 and 1",
        ),
        "mean of the sizes": (lambda below, above: 2 / (below.abs() + above.abs()), "mean square 1"),
        "axis: one gain for all": (
            lambda below, above: (2 / (below**2 + above**2)).sqrt().mean().reshape(1, 1, 1),
            "shape",
        ),
    },
    "matching_loss_of_tanh": {
        "sign: product added": (lambda z, y: log_cosh(z) + y * z + constant(y), "prediction minus truth"),
        "sign: truth minus prediction": (lambda z, y: y * z - log_cosh(z) - constant(y), "prediction minus truth"),
        "factor: that of the sigmoid": (
            lambda z, y: softplus(z) - (1 + y) / 2 * z,
            "prediction minus truth",
        ),
        "factor: half squared error": (lambda z, y: (z.tanh() - y) ** 2 / 2, "prediction minus truth"),
        "no constant": (lambda z, y: log_cosh(z) - y * z, "Zero where"),
        "constant of a label for every target": (lambda z, y: log_cosh(z) - y * z + math.log(2), "Zero where"),
        "constant that fails at a label": (
            lambda z, y: log_cosh(z) - y * z - log_cosh(y.atanh()) + y * y.atanh(),
            "prediction minus truth",
        ),
        "cosh overflows": (lambda z, y: z.cosh().log() - y * z + constant(y), "thousands"),
        "axis: summed": (lambda z, y: (log_cosh(z) - y * z + constant(y)).sum().reshape(1, 1, 1), "shape"),
    },
}
