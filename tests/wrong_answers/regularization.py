"""Typical wrong answers to the exercises on penalties, each with words of the property that names it."""

import torch


def soft(value, threshold):
    """Return the soft threshold of a tensor."""
    return value.sign() * (value.abs() - threshold).clamp(min=0)


def lasso(
    inputs,
    target,
    weight,
    *,
    climbs=False,
    slope=2,
    with_step=True,
    threshold=soft,
    centred_by=0,
    bias_share=1.0,
    shifted=True,
):
    """Return what proximal steps arrive at, with one mistake."""
    x = inputs - inputs.mean(centred_by, keepdim=True)
    y = target - target.mean()
    curvature, pull = slope * x.T @ x / len(x), slope * x.T @ y / len(x)
    step = 0.5 / torch.linalg.matrix_norm(curvature / slope, 2)
    w = torch.zeros_like(pull)
    for _ in range(100):
        w = w - (-0.01 if climbs else 1) * step * (curvature @ w - pull)
        w = threshold(w, (step if with_step else 1) * weight)
    bias = bias_share * target.mean() - (inputs.mean(0) @ w if shifted else 0)
    return torch.cat([w, bias[None]])


def plain_steps(value, threshold):
    return value - threshold * value.sign()


WRONG = {
    "elastic_net_shrinkage": {
        "sign: only positive weights": (
            lambda w, lam, rho: (w.abs() - lam * rho / 2).clamp(min=0) / (1 + lam * (1 - rho)),
            "lambda is 0",
        ),
        "sign: no absolute value": (
            lambda w, lam, rho: (w - lam * rho / 2) / (1 + lam * (1 - rho)),
            "Opposite",
        ),
        "sign: through 0": (
            lambda w, lam, rho: (w - w.sign() * lam * rho / 2) / (1 + lam * (1 - rho)),
            "Never beyond 0",
        ),
        "factor: threshold without the half": (
            lambda w, lam, rho: soft(w, lam * rho) / (1 + lam * (1 - rho)),
            "a little above",
        ),
        "factor: square with a half": (
            lambda w, lam, rho: soft(w, lam * rho / 2) / (1 + lam * (1 - rho) / 2),
            "divided by 1 + lambda",
        ),
        "factor: divided before the threshold": (
            lambda w, lam, rho: soft(w / (1 + lam * (1 - rho)), lam * rho / 2),
            "a little above",
        ),
        "factor: square of the whole lambda": (
            lambda w, lam, rho: soft(w, lam * rho / 2) / (1 + lam),
            "costs less",
        ),
        "axis: summed": (
            lambda w, lam, rho: (soft(w, lam * rho / 2) / (1 + lam * (1 - rho))).sum().reshape(1, 1),
            "shape of the least-squares weights",
        ),
        "hard threshold": (
            lambda w, lam, rho: w * (w.abs() > lam * rho / 2) / (1 + lam * (1 - rho)),
            "costs less",
        ),
    },
    "lasso_by_proximal_steps": {
        "sign: climbs": (lambda x, y, lam: lasso(x, y, lam, climbs=True), "within lambda"),
        "factor: half the squared error": (lambda x, y, lam: lasso(x, y, lam, slope=1), "within lambda"),
        "factor: threshold without the step": (lambda x, y, lam: lasso(x, y, lam, with_step=False), "within lambda"),
        "factor: no threshold": (lambda x, y, lam: lasso(x, y, lam, threshold=lambda w, t: w), "exactly 0"),
        "axis: rows centred": (lambda x, y, lam: lasso(x, y, lam, centred_by=1), "exactly 0"),
        "axis: no bias returned": (lambda x, y, lam: lasso(x, y, lam)[:-1], "last, the bias"),
        "the bias is penalised": (lambda x, y, lam: lasso(x, y, lam, bias_share=1 / (1 + lam)), "mean of 0"),
        "the bias of the centred inputs": (lambda x, y, lam: lasso(x, y, lam, shifted=False), "mean of 0"),
        "gradient steps on the corner": (lambda x, y, lam: lasso(x, y, lam, threshold=plain_steps), "exactly 0"),
    },
}
