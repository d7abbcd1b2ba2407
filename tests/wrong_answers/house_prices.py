"""Typical wrong answers of the chapter on house prices, each with words of the property that should name it."""

import math

import torch


def mills(prediction, cap, sigma):
    u = (prediction - cap) / sigma
    return torch.exp(-u * u / 2 - math.log(2 * math.pi) / 2 - torch.special.log_ndtr(u))


def slope(prediction, target, cap, sigma):
    known = (prediction - target) / sigma**2
    return torch.where(target < cap, known, -mills(prediction, cap, sigma) / sigma)


def divided(prediction, target, cap, sigma):
    u = (prediction - cap) / sigma
    density = torch.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    beyond = -density / (0.5 * (1 + torch.erf(u / math.sqrt(2)))) / sigma
    return torch.where(target < cap, (prediction - target) / sigma**2, beyond) / len(target)


def one_sided(prediction, target, cap, sigma):
    residual = torch.where(target < cap, prediction - target, (prediction - target).clamp(max=0))
    return residual / sigma**2 / len(target)


def kth(scores, count):
    return scores.sort().values[min(max(math.ceil(count), 1), len(scores)) - 1]


def scores(low, high, target):
    return torch.maximum(low - target, target - high)


WRONG = {
    "smeared_prices": {
        "sign: guess minus truth": (lambda g, r: g.exp() * (-r).exp().mean(1, keepdim=True), "cost twice"),
        "factor: none": (lambda g, r: g.exp(), "cost twice"),
        "factor: of the mean residual": (lambda g, r: g.exp() * r.mean(1, keepdim=True).exp(), "half of it"),
        "factor: half the variance": (lambda g, r: (g + r.square().mean(1, keepdim=True) / 2).exp(), "cost twice"),
        "axis: one factor for all networks": (lambda g, r: g.exp() * r.exp().mean(), "alone or among others"),
        "axis: summed over the houses": (lambda g, r: (g.exp() * r.exp().mean(1, keepdim=True)).sum(1), "shape"),
        "added, not multiplied": (lambda g, r: g.exp() + r.exp().mean(1, keepdim=True) - 1, "cost twice"),
    },
    "censored_gradient": {
        "sign": (lambda p, y, c, s: -slope(p, y, c, s) / len(y), "too high"),
        "sign: of the capped part": (
            lambda p, y, c, s: torch.where(y < c, slope(p, y, c, s), -slope(p, y, c, s)) / len(y),
            "below zero",
        ),
        "sign: of u": (
            lambda p, y, c, s: torch.where(y < c, slope(p, y, c, s), -mills(2 * c - p, c, s) / s) / len(y),
            "six sigma above",
        ),
        "factor: no mean": (slope, "twice over"),
        "factor: one sigma missing": (lambda p, y, c, s: slope(p, y, c, s) * s / len(y), "no price is capped"),
        "factor: sigma missing at the cap": (
            lambda p, y, c, s: torch.where(y < c, slope(p, y, c, s), -mills(p, c, s)) / len(y),
            "small step",
        ),
        "axis: summed": (lambda p, y, c, s: slope(p, y, c, s).mean(), "tensor of its shape"),
        "the plain squared error": (lambda p, y, c, s: (p - y) / s**2 / len(y), "below zero"),
        "one-sided": (one_sided, "below zero"),
        "density over probability, both rounded to 0": (divided, "fifty sigma"),
    },
    "conformal_margin": {
        "sign": (lambda a, b, y, q: -kth(scores(a, b, y), (len(y) + 1) * q), "on either side"),
        "sign: of both scores": (
            lambda a, b, y, q: kth(torch.maximum(y - a, b - y), (len(y) + 1) * q),
            "on either side",
        ),
        "factor: both scores added": (
            lambda a, b, y, q: kth((a - y).relu() + (y - b).relu(), (len(y) + 1) * q),
            "on either side",
        ),
        "factor: N for N + 1": (lambda a, b, y, q: kth(scores(a, b, y), len(y) * q), "rounded up"),
        "factor: half the margin": (lambda a, b, y, q: kth(scores(a, b, y), (len(y) + 1) * q) / 2, "on either side"),
        "axis: one side only": (lambda a, b, y, q: kth(y - b, (len(y) + 1) * q), "in the mirror"),
        "axis: one margin for each house": (lambda a, b, y, q: scores(a, b, y), "One number"),
        "the largest score": (lambda a, b, y, q: scores(a, b, y).amax(), "least such number"),
        "the mean score": (lambda a, b, y, q: scores(a, b, y).mean(), "rounded up"),
    },
}
