"""The entries of the losses that ask for a margin."""

from lib.catalog._entry import Entry
from lib.reference import margin


def scores_and_signs(generator, n, spread):
    """Draw normal scores (n,) and labels -1 or +1."""
    return (spread * generator.standard_normal(n), generator.choice([-1.0, 1.0], n)), {}


def _binary_entry(**facts):
    """Return an entry with what the losses of a score and a label -1 or +1 share."""
    shared = {
        "twins": margin,
        "input": "scores x, any shape; their sign is the decision",
        "target": "labels y, -1 or +1, integers or floats of the shape of the input",
        "divides_by": "the number of scores",
        "divisor": lambda sample: sample[0][0].size,
        "convex": True,
        "bound": None,
        "robust": False,
        "calibrated": True,
        "chapter": None,
        "difference": "",
        "sample": scores_and_signs,
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    _binary_entry(
        name="hinge_loss",
        title="Hinge loss",
        value=r"\max(0, 1 - y x)",
        gradient=r"-y\,[y x < 1]",
        minimiser="majority",
        lipschitz=1.0,
        limits=("Its scores are no probabilities: beyond the sign they say little.",),
        torch=None,
        paper="C. Cortes, V. Vapnik, Support-vector networks (1995)",
        url="https://doi.org/10.1007/BF00994018",
    ),
    _binary_entry(
        name="squared_hinge_loss",
        title="Squared hinge loss",
        value=r"\max(0, 1 - y x)^2",
        gradient=r"-2 y \max(0, 1 - y x)",
        minimiser="majority",
        lipschitz=None,
        limits=("One wrong label far on the wrong side outweighs many right ones.",),
        torch=None,
        paper="C. Cortes, V. Vapnik, Support-vector networks (1995)",
        url="https://doi.org/10.1007/BF00994018",
    ),
    _binary_entry(
        name="soft_margin_loss",
        title="Logistic loss",
        value=r"\ln(1 + e^{-y x})",
        gradient=r"-y\,\sigma(-y x)",
        minimiser="posterior",
        lipschitz=1.0,
        limits=("No margin is ever enough: separable data drive the scores to infinity.",),
        torch="soft_margin_loss",
        difference="torch overflows to infinity, with NaN gradients, where exp(-yx) does.",
        paper="J. Friedman, T. Hastie, R. Tibshirani, Additive logistic regression (2000)",
        url="https://doi.org/10.1214/aos/1016218223",
    ),
)
