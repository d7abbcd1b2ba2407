"""Typical wrong answers to the exercises on wrong labels and rare classes, each with words of the property it lacks."""

import torch


def limits(classes, q):
    return (classes - classes ** (1 - q)) / q, (classes - 1) / q


def of_label(said, y):
    return -said[torch.arange(len(y)), y].log().mean()


def undone(values, rate, other=None):
    classes = values.shape[-1]
    other = rate / (classes - 1) if other is None else other
    return (values - other) / (1 - rate - other)


WRONG = {
    "class_sum_range": {
        "sign: the ends swapped": (lambda c, q: limits(c, q)[::-1], "smaller one first"),
        "sign: of the exponent": (lambda c, q: ((c - c**q) / q, (c - 1) / q), "for q = 1"),
        "factor: not divided by q": (lambda c, q: (c - c ** (1 - q), c - 1), "certain prediction are its ends"),
        "factor: the absolute error has a factor of 2": (
            lambda c, q: tuple(2 * end for end in limits(c, q)),
            "for q = 1",
        ),
        "one class of them": (lambda c, q: (0.0, 1 / q), "for q = 1"),
        "only the larger end": (lambda c, q: (c - 1) / q, "Two numbers"),
        "too narrow in the middle": (lambda c, q: limits(c, q) if c < 5 else (limits(c, q)[1],) * 2, "are its ends"),
    },
    "forward_corrected_cross_entropy": {
        "sign": (lambda z, y, t: -of_label(z.softmax(1) @ t, y), "no label is flipped"),
        "factor: sum for mean": (lambda z, y, t: len(y) * of_label(z.softmax(1) @ t, y), "no label is flipped"),
        "factor: noise added, not mixed": (
            lambda z, y, t: of_label((z.softmax(1) + z.softmax(1) @ t) / 2, y),
            "where the truth is certain",
        ),
        "axis: transposed": (lambda z, y, t: of_label(z.softmax(1) @ t.T, y), "where the truth is certain"),
        "axis: softmax over the rows": (lambda z, y, t: of_label(z.softmax(0) @ t, y), "no label is flipped"),
        "the inverse": (
            lambda z, y, t: of_label((z.softmax(1) @ torch.linalg.inv(t)).clamp(min=1e-9), y),
            "where the truth is certain",
        ),
        "logits mixed, not probabilities": (
            lambda z, y, t: torch.nn.functional.cross_entropy(z @ t, y),
            "where the truth is certain",
        ),
        "losses mixed, not probabilities": (
            lambda z, y, t: -(t.T[y] * z.log_softmax(1)).sum(1).mean(),
            "where the truth is certain",
        ),
        "no mean": (lambda z, y, t: -(z.softmax(1) @ t)[torch.arange(len(y)), y].log(), "One number"),
    },
    "balanced_decisions": {
        "sign: times the shares": (lambda p, s, r: (undone(p, r) * undone(s, r)).argmax(1), "Without noise"),
        "factor: rarity forgotten": (lambda p, s, r: p.argmax(1), "Without noise"),
        "factor: noise forgotten": (lambda p, s, r: (p / s).argmax(1), "backwards from the labels'"),
        "factor: noise undone in the shares only": (
            lambda p, s, r: (p / undone(s, r)).argmax(1),
            "backwards from the labels'",
        ),
        "factor: rate over all classes": (
            lambda p, s, r: (undone(p, r, r / p.shape[1]) / undone(s, r, r / p.shape[1])).argmax(1),
            "backwards from the labels'",
        ),
        "axis": (lambda p, s, r: (undone(p, r) / undone(s, r)).argmax(0), "One whole number"),
        "the score, not the class": (lambda p, s, r: (undone(p, r) / undone(s, r)).max(1).values, "whole number"),
    },
}
