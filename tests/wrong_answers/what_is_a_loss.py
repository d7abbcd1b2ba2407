"""Typical wrong answers to the exercises of "What is a loss?", each with words of the property that should name it."""

import torch


def prices(error, too_many, too_few):
    return torch.where(error > 0, too_many * error, -too_few * error)


def saved(prediction, target, constant):
    return 1 - (prediction - target).square().mean() / (constant - target).square().mean()


WRONG = {
    "mean_staffing_cost": {
        "sign: the prices are swapped": (lambda p, y, a, b: prices(y - p, a, b).mean(), "`too_many`"),
        "sign: not taken away": (lambda p, y, a, b: (a * (p - y)).mean(), "Never negative"),
        "sign: too few earns money": (
            lambda p, y, a, b: torch.where(p > y, a * (p - y), b * (p - y)).mean(),
            "Never negative",
        ),
        "factor: sum for mean": (lambda p, y, a, b: prices(p - y, a, b).sum(), "`too_many`"),
        "factor: one price for both": (lambda p, y, a, b: a * (p - y).abs().mean(), "`too_few`"),
        "factor: the prices make shares": (
            lambda p, y, a, b: prices(p - y, a, b).mean() / (a + b),
            "`too_many`",
        ),
        "factor: mean over the nights with an error on that side": (
            lambda p, y, a, b: (
                a * (p - y).clamp(min=0).sum() / (p > y).sum().clamp(min=1)
                + b * (y - p).clamp(min=0).sum() / (p < y).sum().clamp(min=1)
            ),
            "one by one",
        ),
        "axis: no mean at all": (lambda p, y, a, b: prices(p - y, a, b), "One number"),
        "cancelling: the mean error is priced": (lambda p, y, a, b: prices((p - y).mean(), a, b), "one by one"),
        "squared": (lambda p, y, a, b: torch.where(p > y, a, b).mul((p - y).square()).mean(), "two above"),
        "too few is free": (lambda p, y, a, b: (a * (p - y).clamp(min=0)).mean(), "`too_few`"),
    },
    "skill_over_constant": {
        "sign": (lambda p, y, t: -saved(p, y, t.mean()), "1 where"),
        "sign: what is left in place of what is saved": (lambda p, y, t: 1 - saved(p, y, t.mean()), "1 where"),
        "factor: root of the losses": (
            lambda p, y, t: 1 - (p - y).square().mean().sqrt() / (t.mean() - y).square().mean().sqrt(),
            "squared",
        ),
        "factor: not divided by the constant's loss": (
            lambda p, y, t: (t.mean() - y).square().mean() - (p - y).square().mean(),
            "1 where",
        ),
        "factor: sum over mean": (
            lambda p, y, t: 1 - (p - y).square().sum() / (t.mean() - y).square().mean(),
            "0 for the constant",
        ),
        "axis: no mean": (lambda p, y, t: 1 - (p - y).square() / (t.mean() - y).square(), "One number"),
        "constant from the test data": (lambda p, y, t: saved(p, y, y.mean()), "0 for the constant"),
        "constant from both": (lambda p, y, t: saved(p, y, torch.cat([y, t]).mean()), "0 for the constant"),
        "median for mean": (lambda p, y, t: saved(p, y, t.median()), "0 for the constant"),
        "absolute loss": (
            lambda p, y, t: 1 - (p - y).abs().mean() / (t.mean() - y).abs().mean(),
            "squared",
        ),
        "never below zero": (lambda p, y, t: saved(p, y, t.mean()).clamp(min=0), "Negative"),
        "spread of the training data": (
            lambda p, y, t: 1 - (p - y).square().mean() / t.var(correction=0),
            "0 for the constant",
        ),
    },
}
