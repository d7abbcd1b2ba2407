"""Typical wrong answers to the exercises on backpropagation, each with words of the property that names it."""

import torch


def mean_of(p, g, dim=1):
    return (p * g).sum(dim, keepdim=True)


def through_time(weight, inputs, slope, *, sign=1, transposed=True, slope_of=lambda a: 1 - a**2, uses=None, like="w"):
    """Go back through the steps, with one mistake or another."""
    states = [torch.zeros_like(slope)]
    for x in inputs:
        states.append((weight @ states[-1] + x).tanh())
    gradient, g = torch.zeros_like(weight), sign * slope
    for after, before in list(zip(states[1:], states[:-1], strict=True))[::-1][:uses]:
        g = g * slope_of(after)
        gradient = gradient + (torch.outer(g, before) if like == "w" else torch.outer(before, g))
        g = weight.T @ g if transposed else weight @ g
    return gradient


WRONG = {
    "softmax_slope": {
        "sign: mean added": (lambda p, g: p * (g + mean_of(p, g)), "sum of each row"),
        "sign: uphill": (lambda p, g: p * (mean_of(p, g) - g), "p minus the truth"),
        "factor: p left out": (lambda p, g: g - mean_of(p, g), "sum of each row"),
        "factor: as if each p had its own logit": (lambda p, g: p * (1 - p) * g, "sum of each row"),
        "factor: twice": (lambda p, g: 2 * p * (g - mean_of(p, g)), "p minus the truth"),
        "axis: mean over the rows": (lambda p, g: p * (g - mean_of(p, g, dim=0)), "sum of each row"),
        "axis: one mean for all rows": (lambda p, g: p * (g - (p * g).sum()), "sum of each row"),
        "plain mean": (lambda p, g: p * (g - g.mean(1, keepdim=True)), "sum of each row"),
        "slopes divided by their number": (
            lambda p, g: p * (g - mean_of(p, g)) / len(p),
            "p minus the truth",
        ),
        "fused formula": (
            lambda p, g: p - torch.nn.functional.one_hot(torch.zeros(len(p), dtype=torch.int64), p.shape[1]),
            "automatic differentiation of softmax",
        ),
    },
    "recurrent_gradient": {
        "sign": (lambda w, x, g: through_time(w, x, g, sign=-1), "For two inputs"),
        "factor: slope of the sigmoid": (
            lambda w, x, g: through_time(w, x, g, slope_of=lambda a: a * (1 - a)),
            "For two inputs",
        ),
        "factor: slope of tanh left out": (
            lambda w, x, g: through_time(w, x, g, slope_of=torch.ones_like),
            "For two inputs",
        ),
        "factor: mean over the steps": (lambda w, x, g: through_time(w, x, g) / len(x), "For two inputs"),
        "axis: transposed gradient": (lambda w, x, g: through_time(w, x, g, like="x"), "For two inputs"),
        "axis: carried back by the weight itself": (
            lambda w, x, g: through_time(w, x, g, transposed=False),
            "the sum over all uses",
        ),
        "last use only": (lambda w, x, g: through_time(w, x, g, uses=1), "the sum over all uses"),
        "slope at the state before": (
            lambda w, x, g: through_time(w, x, g, slope_of=lambda a: 1 - a.tanh() ** 2),
            "For two inputs",
        ),
        "states after in place of before": (
            lambda w, x, g: torch.outer(g * (1 - x[-1].tanh() ** 2), x[-1].tanh()),
            "Zero for a single input",
        ),
    },
}
