"""Typical wrong answers to the exercises on four neurons by hand, each with words of the property that names it."""

import torch


def slope(x, y, w, b, v, c, *, at_logit=lambda p, y: p - y, local=lambda a: a * (1 - a), lead=lambda w: w):
    """Return the slope in the input with one of its factors replaced."""
    hidden = torch.sigmoid(x[:, None] * w + b)
    p = torch.sigmoid(hidden @ v + c)
    return at_logit(p, y) * (local(hidden) @ (v * lead(w)))


def loudest_path(x, y, w, b, v, c):
    hidden = torch.sigmoid(x[:, None] * w + b)
    p = torch.sigmoid(hidden @ v + c)
    paths = hidden * (1 - hidden) * v * w
    return (p - y) * paths.gather(1, paths.abs().argmax(1, keepdim=True))[:, 0]


def ranges(edges, *, steep=None, v=(10.0, -10.0, 10.0, -10.0), c=-5.0, sign=1):
    """Return a network for two ranges with one of its parts replaced."""
    steep = steep or 80 / edges.diff().min()
    v, c = torch.tensor(v, dtype=edges.dtype), torch.tensor(c, dtype=edges.dtype)
    return steep * torch.ones_like(edges), -sign * steep * edges, v, c


WRONG = {
    "slope_in_input": {
        "sign: truth minus prediction": (
            lambda *args: slope(*args, at_logit=lambda p, y: y - p),
            "larger x costs more",
        ),
        "sign: truth ignored": (lambda *args: slope(*args, at_logit=lambda p, y: p), "Opposite in sign"),
        "factor: w forgotten": (lambda *args: slope(*args, lead=torch.ones_like), "all w are 0"),
        "factor: the sigmoid's slope forgotten": (
            lambda *args: slope(*args, local=torch.ones_like),
            "larger x costs more",
        ),
        "factor: squared error": (
            lambda *args: slope(*args, at_logit=lambda p, y: 2 * (p - y) * p * (1 - p)),
            "automatic differentiation",
        ),
        "factor: a in place of its slope": (lambda *args: slope(*args, local=lambda a: a), "larger x costs more"),
        "axis: averaged over the samples": (lambda *args: slope(*args).mean(), "shape (N,)"),
        "axis: one path only": (loudest_path, "all paths count"),
    },
    "two_ranges": {
        "sign: yes and no exchanged": (lambda e: ranges(e, v=(-10.0, 10.0, -10.0, 10.0), c=5.0), "far below"),
        "sign: steps on the wrong side of 0": (lambda e: ranges(e, sign=-1), "the middle of the first range"),
        "sign: all steps up": (lambda e: ranges(e, v=(10.0, 10.0, 10.0, 10.0)), "far below"),
        "factor: the whole height as bias": (lambda e: ranges(e, c=-10.0), "the middle of the first range"),
        "factor: not loud enough": (lambda e: ranges(e, v=(2.0, -2.0, 2.0, -2.0), c=-1.0), "far below"),
        "factor: not steep enough": (lambda e: ranges(e, steep=10 / e.diff().min()), "a tenth of the smallest gap"),
        "factor: steep at one scale only": (lambda e: ranges(e, steep=80.0), "the middle of the first range"),
        "axis: one column for each edge": (
            lambda e: tuple(part.reshape(-1, 1) for part in ranges(e)),
            "Three tensors of shape (4,)",
        ),
        "one range from the first to the last": (
            lambda e: ranges(e, v=(10.0, 0.0, 0.0, -10.0)),
            "halfway between",
        ),
        "no bias": (lambda e: ranges(e, c=0.0), "far below"),
    },
}
