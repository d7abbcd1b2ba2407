"""Typical wrong answers to the exercises on the five documents, each with words of the property that names it."""

import torch


def stepped(parameters, x, y, rate, sign=1, scale=2, mean=True):
    """Return a step of gradient descent with a sign and a factor of one's own."""
    r = parameters[0] * x + parameters[1] - y
    slopes = torch.stack([(r * x).sum(), r.sum()]) / (len(x) if mean else 1)
    return parameters - sign * scale * rate * slopes


def broadcast(parameters, x, y, rate):
    r = (parameters[0] * x + parameters[1])[:, 0] - y
    return parameters - 2 * rate * torch.stack([(r * x).mean(), r.mean()])


def without_bias(parameters, x, y, rate):
    slope = 2 * ((parameters[0] * x + parameters[1] - y) * x).mean()
    return torch.stack([parameters[0] - rate * slope, parameters[1]])


WRONG = {
    "line_step": {
        "sign: it climbs": (lambda *a: stepped(*a, sign=-1), "lower loss"),
        "factor: the sum for the mean": (lambda *a: stepped(*a, mean=False), "every sample is there twice"),
        "factor: no 2": (lambda *a: stepped(*a, scale=1), "derivative of the mean squared error"),
        "axis: shapes (N,) and (N, 1)": (broadcast, "No movement"),
        "the bias is left out": (without_bias, "derivative of the mean squared error"),
        "the weight alone": (lambda p, x, y, rate: stepped(p, x, y, rate)[:1], "shape (2,)"),
    },
    "pairs_out_of_order": {
        "sign: counts the right pairs": (
            lambda p, stated: ((p[:, None] < p) & (stated[:, None] > stated)).sum(),
            "negative logarithm",
        ),
        "factor: each pair twice": (
            lambda p, stated: ((p[:, None] - p) * (stated[:, None] - stated) > 0).sum(),
            "counted once",
        ),
        "axis: neighbours only": (
            lambda p, stated: (p.diff() * stated.diff() > 0).sum(),
            "neighbours or not",
        ),
        "axis: one number for each row": (
            lambda p, stated: ((p[:, None] < p) & (stated[:, None] <= stated)).sum(dim=1),
            "whole table",
        ),
        "equal losses pass": (
            lambda p, stated: ((p[:, None] < p) & (stated[:, None] < stated)).sum(),
            "must cost more",
        ),
        "equal probabilities count": (
            lambda p, stated: (
                torch.triu((p[:, None] <= p) & (stated[:, None] <= stated), 1).sum()
                + torch.tril((p[:, None] < p) & (stated[:, None] <= stated), -1).sum()
            ),
            "negative logarithm",
        ),
    },
}
