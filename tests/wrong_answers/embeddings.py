"""Typical wrong answers to the exercises on embeddings, each with words of the property that names it."""

import torch


def costs(a, b, c, m):
    """Return whether each triplet costs something, as a column of 0 and 1."""
    return (m + (a - b).square().sum(1) - (a - c).square().sum(1) > 0).double()[:, None]


def distances_costs(a, b, c, m):
    return (m + (a - b).norm(dim=1) - (a - c).norm(dim=1) > 0).double()[:, None]


def unit_gradient(a, b, c, m):
    pull, push = a - b, a - c
    return costs(a, b, c, m) * (pull / pull.norm(dim=1)[:, None] - push / push.norm(dim=1)[:, None]) / len(a)


def nearest_beyond(d, p, r):
    return torch.where((d > p[:, None]) & r, d, torch.inf).argmin(1)


def with_the_farthest(d, semi, r):
    return torch.where(semi.any(1), torch.where(semi, d, torch.inf).argmin(1), torch.where(r, d, -torch.inf).argmax(1))


WRONG = {
    "squared_triplet_gradient": {
        "sign": (lambda a, b, c, m: 2 * costs(a, b, c, m) * (b - c) / len(a), "A small step against it"),
        "sign: both pull": (
            lambda a, b, c, m: 2 * costs(a, b, c, m) * (2 * a - b - c) / len(a),
            "A small step against it",
        ),
        "factor: no 2": (lambda a, b, c, m: costs(a, b, c, m) * (c - b) / len(a), "automatic differentiation"),
        "factor: not divided": (lambda a, b, c, m: 2 * costs(a, b, c, m) * (c - b), "batch is doubled"),
        "factor: divided by the triplets that cost": (
            lambda a, b, c, m: 2 * costs(a, b, c, m) * (c - b) / costs(a, b, c, m).sum().clamp(min=1),
            "automatic differentiation",
        ),
        "axis: summed": (
            lambda a, b, c, m: (2 * costs(a, b, c, m) * (c - b) / len(a)).sum(1),
            "shape of the anchors",
        ),
        "axis: divided by all entries": (
            lambda a, b, c, m: 2 * costs(a, b, c, m) * (c - b) / a.numel(),
            "automatic differentiation",
        ),
        "no maximum": (lambda a, b, c, m: 2 * (c - b) / len(a), "Zero for a triplet"),
        "of distances, not squares": (unit_gradient, "every place of the anchor"),
        "compares distances": (
            lambda a, b, c, m: 2 * distances_costs(a, b, c, m) * (c - b) / len(a),
            "automatic differentiation",
        ),
    },
    "semi_hard_negatives": {
        "sign: nearer than the positive": (
            lambda d, p, r: with_the_farthest(d, (d < p[:, None]) & r, r),
            "Farther away than the positive",
        ),
        "sign: farthest": (lambda d, p, r: torch.where(r, d, -torch.inf).argmax(1), "nearest of the rivals"),
        "hardest": (lambda d, p, r: torch.where(r, d, torch.inf).argmin(1), "Farther away than the positive"),
        "axis: columns": (lambda d, p, r: torch.where(r, d, torch.inf).argmin(0)[: len(p)], "own class"),
        "axis: one for all": (lambda d, p, r: nearest_beyond(d, p, r)[:1], "shape (N,)"),
        "own class allowed": (lambda d, p, r: with_the_farthest(d, d > p[:, None], r), "own class"),
        "first where there is none": (nearest_beyond, "own class"),
        "nearest where there is none": (
            lambda d, p, r: torch.where(
                ((d > p[:, None]) & r).any(1), nearest_beyond(d, p, r), torch.where(r, d, torch.inf).argmin(1)
            ),
            "all nearer",
        ),
        "distances in place of columns": (
            lambda d, p, r: torch.where((d > p[:, None]) & r, d, torch.inf).min(1).values,
            "One integer",
        ),
    },
}
