"""Typical wrong answers to the exercises on margins, each with words of the property that names it."""


def lacking(w, x, y):
    return (1 - y * (x @ w)).clamp(min=0)


def stepped(alphas, i, best):
    after = alphas.clone()
    after[i] = best.clamp(0, 1)
    return after


def lack(alphas, i, x, y, scale):
    return 1 - y[i] * (x[i] @ ((alphas * y) @ x / scale))


def unclamped(a, i, x, y, p):
    after, scale = a.clone(), p * len(y)
    after[i] = a[i] + scale * lack(a, i, x, y, scale) / (x[i] @ x[i])
    return after


def all_at_once(a, i, x, y, p):
    scale = p * len(y)
    margins = y * (x @ ((a * y) @ x / scale))
    return (a + scale * (1 - margins) / (x * x).sum(1)).clamp(0, 1)


def step_with(shortfall, scale):
    """Return an answer from what it takes for the shortfall and for lambda N."""
    return lambda a, i, x, y, p: stepped(a, i, a[i] + scale(p, y) * shortfall(a, i, x, y, p) / (x[i] @ x[i]))


def right_lack(a, i, x, y, p):
    return lack(a, i, x, y, p * len(y))


WRONG = {
    "squared_hinge_slope": {
        "sign: the data's slope downhill": (
            lambda w, x, y, p: p * w + 2 * (lacking(w, x, y) * y) @ x / len(y),
            "lowers the objective",
        ),
        "sign: all of it downhill": (
            lambda w, x, y, p: 2 * (lacking(w, x, y) * y) @ x / len(y) - p * w,
            "let go",
        ),
        "sign: the label forgotten": (
            lambda w, x, y, p: p * w - 2 * lacking(w, x, y) @ x / len(y),
            "lowers the objective",
        ),
        "factor: no 2": (lambda w, x, y, p: p * w - (lacking(w, x, y) * y) @ x / len(y), "times the step"),
        "factor: the sum, not the mean": (lambda w, x, y, p: p * w - 2 * (lacking(w, x, y) * y) @ x, "there twice"),
        "factor: twice the penalty": (
            lambda w, x, y, p: 2 * p * w - 2 * (lacking(w, x, y) * y) @ x / len(y),
            "let go",
        ),
        "axis: summed over the features": (
            lambda w, x, y, p: p * w.sum() - 2 * (lacking(w, x, y)[:, None] * y[:, None] * x).sum(1) / len(y),
            "shape of the weight",
        ),
        "axis: the mean over the features": (
            lambda w, x, y, p: p * w - 2 * (lacking(w, x, y) * y) @ x / x.shape[1],
            "there twice",
        ),
        "no penalty": (lambda w, x, y, p: -2 * (lacking(w, x, y) * y) @ x / len(y), "let go"),
        "the squared error's": (lambda w, x, y, p: p * w - 2 * ((1 - y * (x @ w)) * y) @ x / len(y), "let go"),
        "the hinge's": (
            lambda w, x, y, p: p * w - ((lacking(w, x, y) > 0) * y) @ x / len(y),
            "times the step",
        ),
    },
    "dual_step": {
        "sign": (step_with(lambda *given: -right_lack(*given), lambda p, y: p * len(y)), "never lower"),
        "factor: no N": (step_with(right_lack, lambda p, y: p), "on the margin"),
        "factor: no lambda": (step_with(right_lack, lambda p, y: len(y)), "never lower"),
        "factor: no length": (
            lambda a, i, x, y, p: stepped(a, i, a[i] + p * len(y) * right_lack(a, i, x, y, p)),
            "never lower",
        ),
        "factor: the weight without N": (
            step_with(lambda a, i, x, y, p: lack(a, i, x, y, p), lambda p, y: p * len(y)),
            "never lower",
        ),
        "axis: all samples at once": (all_at_once, "but number i"),
        "axis: the new value alone": (lambda a, i, x, y, p: all_at_once(a, i, x, y, p)[i], "shape of the dual"),
        "not kept within 0 and 1": (unclamped, "between 0 and 1"),
        "replaced, not moved": (
            lambda a, i, x, y, p: stepped(a, i, p * len(y) * right_lack(a, i, x, y, p) / (x[i] @ x[i])),
            "never lower",
        ),
        "to the middle of the street": (
            step_with(lambda *given: right_lack(*given) - 1, lambda p, y: p * len(y)),
            "never lower",
        ),
    },
}
