"""The entries of the penalties on the size of parameters."""

import numpy as np

from lib.catalog._entry import Entry, Slice
from lib.reference import regularization


def _weights(generator, n, spread):
    """Draw n normal weights."""
    return (spread * generator.standard_normal(n),), {}


def _penalty_entry(**facts):
    """Return an entry with what the penalties share."""
    shared = {
        "twins": regularization,
        "use_for": ("keep a model simple",),
        "input": "parameters $w$: a module, or (name, tensor) pairs",
        "target": "none",
        "divides_by": "nothing: it is a sum, and has no reductions",
        "divisor": None,
        "minimiser": "all parameters 0",
        "convex": True,
        "bound": None,
        "sample": _weights,
        "slice": Slice("one parameter", -2.0, 2.0, lambda weight: (weight[None],)),
        "optimum": lambda generator: ((np.zeros(7),), {}),
        "arguments": lambda weights: ([("weight", weights)],),
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    _penalty_entry(
        name="l1_penalty",
        title="L1 penalty (lasso)",
        helps_against=("irrelevant features",),
        because="Few of the features matter, and the model should say which.",
        value=r"\sum_j |w_j|",
        gradient=r"\operatorname{sign}(w_j)",
        symbols=r"Of $M$ parameters the Lipschitz constant is $\sqrt M$.",
        lipschitz=1.0,
        setting="for one parameter",
        limits=(
            "Of several features that say the same it keeps one, and which one is chance.",
            "Plain gradient steps make weights small, not exactly 0: that takes a proximal step.",
        ),
        paper="R. Tibshirani, Regression shrinkage and selection via the lasso (1996)",
        url="https://doi.org/10.1111/j.2517-6161.1996.tb02080.x",
        chapter="formulas/regularization",
    ),
    _penalty_entry(
        name="l2_penalty",
        title="L2 penalty (ridge)",
        first_choice_for=("keep a model simple",),
        helps_against=("overfitting", "correlated features"),
        because="Every feature may matter a little: large weights shrink the most, none vanishes, and the solution is "
        "steady.",
        value=r"\sum_j w_j^2",
        gradient=r"2 w_j",
        lipschitz=None,
        limits=(
            "No weight becomes exactly 0.",
            "Under Adam it is not the same as weight decay, as Adam divides its gradient by the size of past ones.",
        ),
        paper="A. E. Hoerl, R. W. Kennard, Ridge regression (1970)",
        url="https://doi.org/10.1080/00401706.1970.10488634",
        chapter="formulas/regularization",
    ),
    _penalty_entry(
        name="elastic_net_penalty",
        title="Elastic net penalty",
        helps_against=("irrelevant features", "correlated features"),
        because="Few of the features matter, but they come in correlated groups, which should stay or go together.",
        value=r"\sum_j \bigl(\rho\,|w_j| + (1 - \rho)\,w_j^2\bigr)",
        gradient=r"\rho \operatorname{sign}(w_j) + 2 (1 - \rho)\,w_j",
        symbols=r"$\rho$: the share of L1, the option l1_ratio, between 0 and 1.",
        setting=r"with $\rho = 0.5$",
        lipschitz=None,
        limits=("Two numbers have to be tuned, the strength of the penalty and the share of L1.",),
        paper="H. Zou, T. Hastie, Regularization and variable selection via the elastic net (2005)",
        url="https://doi.org/10.1111/j.1467-9868.2005.00503.x",
        chapter="formulas/regularization",
    ),
)
