"""Typical wrong answers to the exercises on comparing losses, each with words of the property that should name it."""

import torch


def variance(probabilities, logits):
    """Of the logits of each row under the probabilities."""
    expected = (probabilities * logits).sum(1, keepdim=True)
    return (probabilities * (logits - expected) ** 2).sum(1)


def overflowing(z, beta):
    odds = (beta * z).exp()
    return variance(odds / odds.sum(1, keepdim=True), z).mean()


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
    "curvature_in_beta": {
        "sign": (lambda z, beta: -variance((beta * z).softmax(1), z).mean(), "Never below 0"),
        "factor: sum for mean": (lambda z, beta: variance((beta * z).softmax(1), z).sum(), "mean of the curvatures"),
        "factor: standard deviation": (
            lambda z, beta: variance((beta * z).softmax(1), z).sqrt().mean(),
            "Four times as large",
        ),
        "factor: logits times beta": (
            lambda z, beta: variance((beta * z).softmax(1), beta * z).mean(),
            "Four times as large",
        ),
        "factor: divided by C": (
            lambda z, beta: variance((beta * z).softmax(1), z).mean() / z.shape[1],
            "changes the slope of the loss",
        ),
        "axis": (lambda z, beta: variance((beta * z).softmax(0), z).mean(), "all logits of a row are equal"),
        "logits over beta": (lambda z, beta: variance((z / beta).softmax(1), z).mean(), "Four times as large"),
        "softmax without beta": (lambda z, beta: variance(z.softmax(1), z).mean(), "Four times as large"),
        "the expected logit forgotten": (
            lambda z, beta: ((beta * z).softmax(1) * z**2).sum(1).mean(),
            "all logits of a row are equal",
        ),
        "all classes alike": (lambda z, beta: z.var(1, correction=0).mean(), "changes the slope of the loss"),
        "no reduction": (lambda z, beta: variance((beta * z).softmax(1), z), "One number"),
        "overflow": (overflowing, "a hundred thousand times"),
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
