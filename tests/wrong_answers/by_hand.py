"""Typical wrong answers to the exercises on losses worked by hand, each with words of the property that names it."""

import torch


def stepped(point, loss, ahead, behind, width):
    """Return slopes from the points ``ahead`` and ``behind`` of each entry, divided by ``width``."""
    found = torch.zeros_like(point)
    for place in range(point.numel()):
        shift = torch.zeros_like(point)
        shift.view(-1)[place] = 1
        found.view(-1)[place] = (loss(point + ahead * shift) - loss(point + behind * shift)) / width
    return found


def whole_point_at_once(x, f):
    return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5 * torch.ones_like(x)


def first_axis_at_once(x, f):
    found = torch.zeros_like(x)
    for place in range(x.shape[-1]):
        shift = torch.zeros_like(x)
        shift[..., place] = 1e-5
        found[..., place] = (f(x + shift) - f(x - shift)) / 2e-5
    return found


WRONG = {
    "error_of_the_wrong_branch": {
        "sign: always positive": (lambda r, b: (r.abs() - b) ** 2 / (2 * b), "below zero within"),
        "sign: right branch minus wrong": (
            lambda r, b: -torch.sign(r.abs() - b) * (r.abs() - b) ** 2 / (2 * b),
            "Above zero beyond",
        ),
        "sign: no absolute value": (lambda r, b: torch.sign(r - b) * (r - b) ** 2 / (2 * b), "too high"),
        "factor: no half": (
            lambda r, b: torch.sign(r.abs() - b) * (r.abs() - b) ** 2 / b,
            "Added to the smooth L1 loss",
        ),
        "factor: not divided by beta": (
            lambda r, b: torch.sign(r.abs() - b) * (r.abs() - b) ** 2 / 2,
            "unit of the residual",
        ),
        "threshold 1 whatever beta": (lambda r, b: torch.sign(r.abs() - 1) * (r.abs() - 1) ** 2 / 2, "touch"),
        "nothing inside": (lambda r, b: (r.abs() - b).clamp(min=0) ** 2 / (2 * b), "below zero within"),
        "axis: summed": (
            lambda r, b: (torch.sign(r.abs() - b) * (r.abs() - b) ** 2 / (2 * b)).sum().reshape(1),
            "shape of the residuals",
        ),
        "Huber in place of smooth L1": (
            lambda r, b: b * torch.sign(r.abs() - b) * (r.abs() - b) ** 2 / (2 * b),
            "unit of the residual",
        ),
        "the parabola alone": (lambda r, b: r**2 / (2 * b), "touch"),
    },
    "slope_by_differences": {
        "sign": (lambda x, f: stepped(x, f, -1e-5, 1e-5, 2e-5), "1 x_1"),
        "factor: divided by one step": (lambda x, f: stepped(x, f, 1e-5, -1e-5, 1e-5), "1 x_1"),
        "factor: not divided": (lambda x, f: stepped(x, f, 1e-5, -1e-5, 1), "1 x_1"),
        "axis: all entries at once": (whole_point_at_once, "1 x_1"),
        "axis: whole columns at once": (first_axis_at_once, "1 x_1"),
        "shape": (lambda x, f: stepped(x, f, 1e-5, -1e-5, 2e-5).sum(), "shape of the point"),
        "one side only": (lambda x, f: stepped(x, f, 1e-7, 0, 1e-7), "both sides"),
        "step too long": (lambda x, f: stepped(x, f, 1e-3, -1e-3, 2e-3), "neither long nor tiny"),
        "step too short": (lambda x, f: stepped(x, f, 1e-11, -1e-11, 2e-11), "neither long nor tiny"),
        "one step for all sizes": (lambda x, f: stepped(x, f, 1e-6, -1e-6, 2e-6), "millions"),
    },
}
