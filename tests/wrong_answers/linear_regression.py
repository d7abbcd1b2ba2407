"""Typical wrong answers to the exercises on linear regression, each with words of the property that names it."""


def left_out(x, y, *, weight=lambda leverage: 1 / (1 - leverage), average=lambda errors: errors.mean(), constant=True):
    """Return the leave-one-out loss with one of its parts replaced."""
    away = x - x.mean()
    slope = (away * y).sum() / away.square().sum()
    residual = slope * away + y.mean() - y
    leverage = constant / len(x) + away.square() / away.square().sum()
    return average((residual * weight(leverage)).square())


def without_intercept(x, y):
    slope = (x * y).sum() / x.square().sum()
    return ((slope * x - y) / (1 - x.square() / x.square().sum())).square().mean()


def weighted_once(x, y):
    away = x - x.mean()
    slope = (away * y).sum() / away.square().sum()
    residual = slope * away + y.mean() - y
    return (residual.square() / (1 - 1 / len(x) - away.square() / away.square().sum())).mean()


WRONG = {
    "all_pairs_mse": {
        "sign: plus the product of the means": (
            lambda t, p: t.square().mean() + p.square().mean() + 2 * t.mean() * p.mean(),
            "the same number",
        ),
        "factor: the product of the means once": (
            lambda t, p: t.square().mean() + p.square().mean() - t.mean() * p.mean(),
            "the same number",
        ),
        "factor: variances that divide by N - 1": (
            lambda t, p: t.var() + p.var() + (t.mean() - p.mean()) ** 2,
            "the table",
        ),
        "factor: the means' distance forgotten": (
            lambda t, p: t.var(correction=0) + p.var(correction=0),
            "the table",
        ),
        "axis: the N pairs that belong together": (lambda t, p: (t - p).square().mean(), "another order"),
        "axis: summed": (lambda t, p: (t[:, None] - p).square().sum(), "the table"),
        "axis: one number for each truth": (lambda t, p: (t[:, None] - p).square().mean(1), "without a shape"),
        "sign: squares of the predictions only": (lambda t, p: p.square().mean(), "the same number"),
    },
    "leave_one_out_mse": {
        "sign: one plus leverage": (
            lambda x, y: left_out(x, y, weight=lambda leverage: 1 / (1 + leverage)),
            "misses it by more",
        ),
        "factor: multiplied, not divided": (
            lambda x, y: left_out(x, y, weight=lambda leverage: 1 - leverage),
            "misses it by more",
        ),
        "factor: leverage without 1 / N": (lambda x, y: left_out(x, y, constant=False), "each without one sample"),
        "factor: divided once, not squared": (weighted_once, "each without one sample"),
        "factor: the mean leverage for all": (
            lambda x, y: left_out(x, y, weight=lambda leverage: 1 / (1 - 2 / len(leverage))),
            "each without one sample",
        ),
        "axis: summed": (
            lambda x, y: left_out(x, y, average=lambda errors: errors.sum()),
            "each without one sample",
        ),
        "axis: one number for each sample": (
            lambda x, y: left_out(x, y, average=lambda errors: errors),
            "without a shape",
        ),
        "no intercept": (without_intercept, "one line"),
        "the training loss": (lambda x, y: left_out(x, y, weight=lambda leverage: 1), "misses it by more"),
    },
}
