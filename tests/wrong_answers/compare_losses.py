"""Typical wrong answers to the exercises on comparing losses, each with words of the property that should name it."""

import torch


def truth(logits, labels):
    return logits.gather(1, labels[:, None]).squeeze(1)


def expected(probabilities, logits):
    return (probabilities * logits).sum(1)


def overflowing(z, y, t):
    odds = (z / t).exp()
    return ((truth(z, y) - expected(odds / odds.sum(1, keepdim=True), z)) / t**2).mean()


def stepwise(p_values, level, bound):
    """Reject in ascending order for as long as the bound of a step allows."""
    order = p_values.argsort()
    bounds = torch.tensor([bound(step, len(p_values)) for step in range(len(p_values))]) * level
    rejected = torch.zeros(len(p_values), dtype=torch.bool)
    rejected[order] = (p_values[order] <= bounds).long().cumprod(0).bool()
    return rejected


def unstopped(p_values, level):
    order = p_values.argsort()
    rejected = torch.zeros(len(p_values), dtype=torch.bool)
    rejected[order] = p_values[order] <= level / torch.arange(len(order), 0, -1)
    return rejected


def still_sorted(p_values, level):
    return torch.tensor(sorted(stepwise(p_values, level, lambda step, m: 1 / (m - step)).tolist(), reverse=True))


WRONG = {
    "slope_in_temperature": {
        "sign": (lambda z, y, t: ((expected((z / t).softmax(1), z) - truth(z, y)) / t**2).mean(), "Above 0"),
        "factor: not squared": (
            lambda z, y, t: ((truth(z, y) - expected((z / t).softmax(1), z)) / t).mean(),
            "twice the temperature",
        ),
        "factor: sum for mean": (
            lambda z, y, t: ((truth(z, y) - expected((z / t).softmax(1), z)) / t**2).sum(),
            "mean of the slopes",
        ),
        "factor: slope in the inverse": (
            lambda z, y, t: (expected((z / t).softmax(1), z) - truth(z, y)).mean(),
            "Above 0",
        ),
        "axis": (
            lambda z, y, t: ((truth(z, y) - ((z / t).softmax(0) * z).sum(1)) / t**2).mean(),
            "all logits of a row are equal",
        ),
        "softmax without the temperature": (
            lambda z, y, t: ((truth(z, y) - expected(z.softmax(1), z)) / t**2).mean(),
            "twice the temperature",
        ),
        "the expected logit forgotten": (lambda z, y, t: (truth(z, y) / t**2).mean(), "all logits of a row are equal"),
        "no reduction": (lambda z, y, t: (truth(z, y) - expected((z / t).softmax(1), z)) / t**2, "One number"),
        "overflow": (overflowing, "thousandth"),
    },
    "interval_of_differences": {
        "sign": (lambda a, b, t: ((b - a).mean(), t * (a - b).std() / len(a) ** 0.5), "first results minus"),
        "factor: no root": (lambda a, b, t: ((a - b).mean(), t * (a - b).std() / len(a)), "standard error"),
        "factor: spread in place of the error": (
            lambda a, b, t: ((a - b).mean(), t * (a - b).std()),
            "standard error",
        ),
        "factor: divided by N": (
            lambda a, b, t: ((a - b).mean(), t * (a - b).std(correction=0) / len(a) ** 0.5),
            "standard error",
        ),
        "factor: the whole width": (
            lambda a, b, t: ((a - b).mean(), 2 * t * (a - b).std() / len(a) ** 0.5),
            "standard error",
        ),
        "factor: the normal's 1.96": (
            lambda a, b, t: ((a - b).mean(), 1.96 * (a - b).std() / len(a) ** 0.5),
            "standard error",
        ),
        "variance for standard deviation": (
            lambda a, b, t: ((a - b).mean(), t * (a - b).var() / len(a) ** 0.5),
            "Ten times as wide",
        ),
        "unpaired": (
            lambda a, b, t: ((a - b).mean(), t * ((a.var() + b.var()) / len(a)) ** 0.5),
            "every difference is the same",
        ),
        "difference of the spreads": (
            lambda a, b, t: ((a - b).mean(), t * (a.std() - b.std()).abs() / len(a) ** 0.5),
            "what the seed does to both",
        ),
        "ends": (
            lambda a, b, t: (
                (a - b).mean() - t * (a - b).std() / len(a) ** 0.5,
                ((a - b).mean() + t * (a - b).std() / len(a) ** 0.5).abs(),
            ),
            "first results minus",
        ),
        "the middle alone": (lambda a, b, t: (a - b).mean(), "Two numbers"),
    },
    "holm_rejections": {
        "sign": (lambda p, level: p > level, "A single p-value"),
        "factor: no correction": (lambda p, level: p <= level, "the smaller one needs"),
        "factor: Bonferroni": (lambda p, level: p <= level / len(p), "one hypothesis is left"),
        "factor: Benjamini and Hochberg's bounds": (
            lambda p, level: stepwise(p, level, lambda step, m: (step + 1) / m),
            "Holm",
        ),
        "factor: one too many": (lambda p, level: stepwise(p, level, lambda step, m: 1 / (m - step + 1)), "A single"),
        "axis: not put back in order": (still_sorted, "smaller p-value"),
        "does not stop": (unstopped, "the last is not asked"),
        "numbers": (lambda p, level: p * len(p), "One boolean"),
    },
}
