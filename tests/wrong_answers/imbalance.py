"""Typical wrong answers to the exercises on rare classes, each with words of the property that should name it."""

import torch

from lib import losses


def pull(p, gamma, sign=-1.0, factor=1.0):
    """Return the size of the focal loss's slope in the logit, right for the defaults."""
    return (1 - p) ** gamma * (1 - p + sign * factor * gamma * p * p.log())


def balanced(p, yes, no):
    """Return the q with which a pull of yes and one of no cancel."""
    return no / (yes + no)


def shifted(z, counts, times=1.0):
    return z + times * (counts / counts.sum()).log()


WRONG = {
    "truth_behind_focal": {
        "sign: yes and no swapped": (lambda p, g: balanced(p, pull(1 - p, g), pull(p, g)), "gamma is 0"),
        "sign: of the logarithm": (
            lambda p, g: balanced(p, pull(p, g, sign=1.0), pull(1 - p, g, sign=1.0)).clamp(0, 1),
            "Farther from one half",
        ),
        "factor: the weight taken for a constant": (
            lambda p, g: balanced(p, (1 - p) ** (g + 1), p ** (g + 1)),
            "slope 0",
        ),
        "factor: no gamma before the logarithm": (
            lambda p, g: balanced(p, pull(p, g, factor=1 / max(g, 1e-9)), pull(1 - p, g, factor=1 / max(g, 1e-9))),
            "slope 0",
        ),
        "axis: one number for all": (lambda p, g: balanced(p, pull(p, g), pull(1 - p, g)).mean(), "each stated one"),
        "what is stated": (lambda p, g: p, "slope 0"),
        "the same error once more": (
            lambda p, g: p ** (1 / (g + 1)) / (p ** (1 / (g + 1)) + (1 - p) ** (1 / (g + 1))),
            "Farther from one half",
        ),
    },
    "cheapest_decisions": {
        "sign: the dearest": (lambda p, c: (p @ c).argmax(1), "class is certain"),
        "factor: prices of mistakes forgotten": (lambda p, c: p.argmax(1), "class is certain"),
        "factor: the likeliest class for certain": (lambda p, c: c[p.argmax(1)].argmin(1), "1/51"),
        "axis: over the rows": (lambda p, c: (p @ c).argmin(0), "class is certain"),
        "axis: costs transposed": (lambda p, c: (p @ c.T).argmin(1), "whole number"),
        "the cost, not the decision": (lambda p, c: (p @ c).min(1).values, "whole number"),
        "the odds 1 to 50 for the threshold": (
            lambda p, c: (p**0.98 @ c).argmin(1),
            "1/51",
        ),
    },
    "logit_adjusted_cross_entropy": {
        "sign": (lambda z, y, n: losses.cross_entropy(shifted(z, n, -1.0), y), "For logits of 0"),
        "factor: twice the shift": (lambda z, y, n: losses.cross_entropy(shifted(z, n, 2.0), y), "For logits of 0"),
        "factor: counts without a logarithm": (lambda z, y, n: losses.cross_entropy(z + n, y), "For logits of 0"),
        "factor: sum for mean": (
            lambda z, y, n: losses.cross_entropy(shifted(z, n), y, reduction="sum"),
            "all classes are equally frequent",
        ),
        "factor: a weight in place of a shift": (
            lambda z, y, n: losses.cross_entropy(z, y, weight=1 / n.float()),
            "For logits of 0",
        ),
        "axis": (
            lambda z, y, n: -shifted(z, n).log_softmax(0)[torch.arange(len(y)), y].mean(),
            "all classes are equally frequent",
        ),
        "axis: a loss for each row": (
            lambda z, y, n: losses.cross_entropy(shifted(z, n), y, reduction="none"),
            "One number",
        ),
        "the shift after the softmax": (
            lambda z, y, n: -(z.log_softmax(1) + (n / n.sum()).log())[torch.arange(len(y)), y].mean(),
            "all classes are equally frequent",
        ),
        "overflow": (
            lambda z, y, n: (
                (z.exp() * n).sum(1).log() - shifted(z, n)[torch.arange(len(y)), y] - n.sum().log()
            ).mean(),
            "in the thousands",
        ),
    },
}
