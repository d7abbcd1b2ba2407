"""Typical wrong answers of the chapter on losses for numbers, each with words of the property that should name it."""

import torch


def slope(predictions, target, levels):
    return (predictions > target[:, None]).to(levels.dtype) - levels


def location(samples, delta):
    low, high = samples.amin(1), samples.amax(1)
    for _ in range(60):
        middle = (low + high) / 2
        below = (middle[:, None] - samples).clamp(-delta, delta).sum(1) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high


def one_step(samples, delta):
    centre = samples.median(1, keepdim=True).values
    return (centre + (samples - centre).clamp(-delta, delta)).mean(1)


def trimmed(samples, delta):
    inside = (samples - samples.median(1, keepdim=True).values).abs() <= delta
    return (samples * inside).sum(1) / inside.sum(1)


WRONG = {
    "quantile_gradient": {
        "sign": (lambda p, y, q: -slope(p, y, q) / p.numel(), "too low"),
        "sign: of the levels": (lambda p, y, q: slope(p, y, 1 - q) / p.numel(), "as -q to 1 - q"),
        "factor: no mean": (lambda p, y, q: slope(p, y, q), "twice over"),
        "factor: mean over the rows only": (lambda p, y, q: slope(p, y, q) / len(p), "all rows and levels"),
        "factor: mean over the levels only": (lambda p, y, q: slope(p, y, q) / p.shape[1], "twice over"),
        "factor: twice the loss": (lambda p, y, q: 2 * slope(p, y, q) / p.numel(), "all rows and levels"),
        "axis: summed over the rows": (lambda p, y, q: slope(p, y, q).mean(0), "shape of the predictions"),
        "axis: levels in the wrong order": (lambda p, y, q: slope(p, y, q.flip(0)) / p.numel(), "as -q to 1 - q"),
        "axis: one target for all rows": (
            lambda p, y, q: slope(p, y.mean().expand_as(y), q) / p.numel(),
            "too low",
        ),
        "the absolute error": (lambda p, y, q: (p - y[:, None]).sign() / p.numel(), "as -q to 1 - q"),
        "residuals for their signs": (lambda p, y, q: (p - y[:, None]) / p.numel(), "as -q to 1 - q"),
    },
    "huber_location": {
        "sign: towards the edge": (lambda s, d: s.amax(1), "larger than every residual"),
        "sign: away from the sample": (lambda s, d: 2 * s.amin(1) - s.amax(1), "least and the largest"),
        "factor: the threshold fixed at 1": (lambda s, d: location(s, 1.0), "60 times"),
        "factor: half the threshold": (lambda s, d: location(s, d / 2), "add up to zero"),
        "factor: a threshold of its own": (
            lambda s, d: location(s, s.std(1, keepdim=True)),
            "larger than every residual",
        ),
        "axis": (lambda s, d: location(s.T, d), "for each row"),
        "axis: one number for all": (
            lambda s, d: location(s.reshape(1, -1), d).expand(len(s)),
            "among others",
        ),
        "the mean": (lambda s, d: s.mean(1), "odd number"),
        "the median": (lambda s, d: s.median(1).values, "larger than every residual"),
        "one step from the median": (one_step, "add up to zero"),
        "trimmed, not clipped": (trimmed, "add up to zero"),
        "too few steps": (lambda s, d: s.amin(1) + 0.5 * (s.amax(1) - s.amin(1)), "larger than every residual"),
    },
}
