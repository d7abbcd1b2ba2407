"""The entries of the losses that ask for a margin."""

import math

import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import CONDITION, LOGISTIC
from lib.catalog.classification import CLASSES, logits_and_labels, true_class_against_zeros
from lib.reference import margin

ALONG_THE_SCORE = Slice("score times label", -3.0, 3.0, lambda score: (score[None], torch.ones(1).double()))
ALONG_THE_TRUE_SCORE = Slice(f"score of the true class, beside {CLASSES - 1} of 0", -3.0, 3.0, true_class_against_zeros)
ALONG_THE_LEAD = Slice(
    "lead of the first item, which should lead",
    -3.0,
    3.0,
    lambda lead: (lead[None], torch.zeros(1).double(), torch.ones(1).double()),
)


def scores_and_signs(generator, n, spread):
    """Draw normal scores (n,) and labels -1 or +1."""
    return (spread * generator.standard_normal(n), generator.choice([-1.0, 1.0], n)), {}


def _binary_entry(**facts):
    """Return an entry with what the losses of a score and a label -1 or +1 share."""
    shared = {
        "twins": margin,
        "input": "scores $z$, any shape; their sign is the decision",
        "target": "labels $y$, -1 or +1, integers or floats of the shape of the input",
        "divides_by": "the number of scores",
        "divisor": lambda sample: sample[0][0].size,
        "convex": True,
        "bound": None,
        "robust": False,
        "calibrated": True,
        "difference": "",
        "sample": scores_and_signs,
        "slice": ALONG_THE_SCORE,
    }
    return Entry(**{**shared, **facts})


def _multi_class_entry(**facts):
    """Return an entry with what the multi-class hinge losses share."""
    shared = {
        "twins": margin,
        "input": "scores $z$, shape (C,) or (N, C)",
        "target": "class indices $y$, integers, shape () or (N,)",
        "divides_by": "the number of samples",
        "divisor": lambda sample: len(sample[0][1]),
        "convex": True,
        "bound": None,
        "robust": False,
        "calibrated": False,
        "sample": logits_and_labels,
        "slice": ALONG_THE_TRUE_SCORE,
    }
    return Entry(**{**shared, **facts})


def _pairs_and_orders(generator, n, spread):
    """Draw two scores for each pair, and which should be the higher."""
    return (*(spread * generator.standard_normal((2, n))), generator.choice([-1.0, 1.0], n)), {"margin": 1.0}


def _ordered_pairs(generator):
    """Return pairs whose order is right by twice the margin."""
    (_, second, order), options = _pairs_and_orders(generator, 6, 1.0)
    return (second + 2 * order, second, order), options


ENTRIES = (
    _binary_entry(
        name="hinge_loss",
        title="Hinge loss",
        use_for=("answer yes or no",),
        because="Only the decision counts, in a linear or kernel model: samples beyond the margin drop out, and "
        "the rest, the support vectors, carry the solution.",
        value=r"\max(0, 1 - y z)",
        gradient=r"-y\,[y z < 1]",
        symbols=f"{CONDITION}.",
        minimiser="majority",
        lipschitz=1.0,
        limits=("Its scores are no probabilities: beyond the sign they say little.",),
        torch=None,
        paper="C. Cortes, V. Vapnik, Support-vector networks (1995)",
        url="https://doi.org/10.1007/BF00994018",
        chapter="formulas/margins",
    ),
    _binary_entry(
        name="squared_hinge_loss",
        title="Squared hinge loss",
        use_for=("answer yes or no",),
        because="The hinge loss is wanted by a solver that needs a slope without jumps, and the labels are clean.",
        value=r"\max(0, 1 - y z)^2",
        gradient=r"-2 y \max(0, 1 - y z)",
        minimiser="flattened posterior",
        lipschitz=None,
        limits=(
            "One wrong label far on the wrong side outweighs many right ones.",
            "Its scores are no log-odds: at the best, z = 2p - 1, so that (z + 1) / 2, cut off at 0 and 1, is the "
            "probability.",
        ),
        torch=None,
        paper="C. Cortes, V. Vapnik, Support-vector networks (1995)",
        url="https://doi.org/10.1007/BF00994018",
        chapter="formulas/margins",
    ),
    _binary_entry(
        name="soft_margin_loss",
        title="Logistic loss (soft margin)",
        use_for=("answer yes or no",),
        because="The labels are -1 and +1 and probabilities are wanted; it is the binary cross-entropy in other signs.",
        value=r"\ln(1 + e^{-y z})",
        gradient=r"-y\,\sigma(-y z)",
        symbols=f"{LOGISTIC}.",
        minimiser="posterior",
        lipschitz=1.0,
        limits=("No margin is ever enough: separable data drive the scores to infinity.",),
        torch="soft_margin_loss",
        difference="torch overflows to infinity, with NaN gradients, where $e^{-y z}$ does: in float32 below -88.",
        paper="J. Friedman, T. Hastie, R. Tibshirani, Additive logistic regression (2000)",
        url="https://doi.org/10.1214/aos/1016218223",
        chapter="formulas/margins",
    ),
    _multi_class_entry(
        name="multi_margin_loss",
        title="Multi-class hinge loss (Weston-Watkins)",
        use_for=("pick one class",),
        because="Only the decision counts, one class is clearly the likeliest, and every rival within the margin "
        "should teach.",
        serves=("the likeliest class",),
        value=r"\frac1C \sum_{j \ne y} \max(0, m - z_y + z_j)",
        gradient=r"\tfrac1C [m - z_y + z_j > 0] \text{ in } z_j, \, j \ne y, \quad \text{minus their sum in } z_y",
        symbols=f"$m$: the margin, by default 1; $C$: the number of classes; {CONDITION}. The Lipschitz constant is "
        r"$\sqrt{(C - 1)/C}$.",
        divides_by="the number of samples, with class weights too",
        setting=f"for {CLASSES} classes",
        minimiser="majority above one half",
        lipschitz=math.sqrt((CLASSES - 1) / CLASSES),
        limits=(
            "Where no class has more than half of the probability, its minimiser need not rank the likeliest first.",
            "Divided by the number of classes, it shrinks as classes are added.",
        ),
        torch="multi_margin_loss",
        difference="Next to large scores, torch's margin is lost in rounding.",
        paper="J. Weston, C. Watkins, Support vector machines for multi-class pattern recognition (1999)",
        url="https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf",
        chapter="formulas/margins",
    ),
    _multi_class_entry(
        name="crammer_singer_loss",
        title="Multi-class hinge loss (Crammer-Singer)",
        use_for=("pick one class",),
        because="Only the decision counts, one class is clearly the likeliest, and the strongest rival alone should "
        "teach.",
        serves=("the likeliest class",),
        value=r"\max\bigl(0, m - z_y + \max_{j \ne y} z_j\bigr)",
        gradient=r"[\ell > 0]\,\bigl([j = j^*] - [j = y]\bigr)",
        symbols=f"$m$: the margin, by default 1; $j^*$: the strongest rival, the class other than $y$ with the largest "
        f"score; {CONDITION}.",
        minimiser="majority above one half",
        lipschitz=math.sqrt(2),
        limits=(
            "Where no class has more than half of the probability, equal scores for all are its minimiser.",
            "Only one rival learns from each sample.",
        ),
        paper="K. Crammer, Y. Singer, On the algorithmic implementation of multiclass kernel-based vector machines "
        "(2001)",
        url="https://www.jmlr.org/papers/v2/crammer01a.html",
        chapter="formulas/margins",
    ),
    Entry(
        name="margin_ranking_loss",
        twins=margin,
        title="Margin ranking loss (pairwise hinge)",
        use_for=("order items",),
        because="Of two items it is known which comes first, and a lead of a margin is enough: a settled pair stops "
        "teaching.",
        value=r"\max(0, m - y (z_1 - z_2))",
        gradient=r"-y\,[m \ge y (z_1 - z_2)] \text{ in } z_1, \text{ the opposite in } z_2",
        symbols=f"$m$: the margin; {CONDITION}.",
        input="scores $z_1$ and $z_2$ of two items, of one shape",
        target="order $y$, +1 where the first should score higher, -1 where the second, of the shape of the scores",
        divides_by="the number of pairs",
        divisor=lambda sample: sample[0][0].size,
        minimiser="the right order of each pair, by the margin m",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=("With the default margin 0, equal scores for all items cost nothing.",),
        torch="margin_ranking_loss",
        difference="Next to large scores, torch's margin is lost in rounding.",
        paper="R. Herbrich, T. Graepel, K. Obermayer, Support vector learning for ordinal regression (1999)",
        url="https://doi.org/10.1049/cp:19991091",
        chapter="formulas/margins",
        sample=_pairs_and_orders,
        slice=ALONG_THE_LEAD,
        differentiable=(0, 1),
        optimum=_ordered_pairs,
    ),
)
