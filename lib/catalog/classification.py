"""The entries of the losses for choosing one class among several."""

import dataclasses
import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice, Tool
from lib.catalog._symbols import CONDITION, LOGISTIC, SOFTMAX
from lib.reference import classification

CLASSES = 4
WEIGHTS = "the number of targets that are not ignore_index; with class weights, the sum of the weights of these"
LABELS = "class indices $y$, integers of the shape of the input without C"
INDICES_OR_PROBABILITIES = f"{LABELS}, or class probabilities $q$, floats of the shape of the input"
SOFTMAX_AND_CONDITION = f"{SOFTMAX}; {CONDITION}"
# The greatest (1 - p)^2 (1 - p - 2 p ln p), near p = 0.058: how steep the focal loss with gamma = 2 gets
FOCAL_SLOPE = 1.12898321857


def true_class_against_zeros(logit):
    """Return one row of logits, that of the true class and zeros, and the label."""
    return torch.nn.functional.pad(logit[None, None], (0, CLASSES - 1)), torch.tensor([0])


def _log_probabilities_of_the_true_class(logit):
    logits, label = true_class_against_zeros(logit)
    return logits.log_softmax(1), label


ALONG_THE_TRUE_LOGIT = Slice(f"logit of the true class, beside {CLASSES - 1} of 0", -6.0, 6.0, true_class_against_zeros)
ALONG_A_YES = Slice("logit, where the answer is yes", -6.0, 6.0, lambda logit: (logit[None], torch.ones(1).double()))


def logits_and_labels(generator, n, spread):
    """Draw normal logits (n, C) and even labels (n,)."""
    return (spread * generator.standard_normal((n, CLASSES)), generator.integers(CLASSES, size=n)), {}


def contested_logits_and_labels(generator, n, spread):
    """Draw logits and labels, half of the rows with two classes in question and all others far behind."""
    (logits, labels), options = logits_and_labels(generator, n, spread)
    rival = (labels + 1) % CLASSES
    classes = np.arange(CLASSES)
    behind = (classes != labels[:, None]) & (classes != rival[:, None]) & (generator.random((n, 1)) < 0.5)
    return (logits - 40.0 * behind, labels), options


def log_probabilities_and_labels(generator, n, spread):
    """Draw log-probabilities (n, C) and even labels (n,)."""
    (logits, labels), options = logits_and_labels(generator, n, spread)
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), labels), options


def logits_and_answers(generator, n, spread):
    """Draw normal logits (n,) and even answers, 0 or 1, as floats (n,)."""
    return (spread * generator.standard_normal(n), generator.choice([0.0, 1.0], n)), {}


def probabilities_and_answers(generator, n, spread):
    """Draw probabilities (n,), of normal logits, and even answers, 0 or 1, as floats (n,)."""
    (logits, answers), options = logits_and_answers(generator, n, spread)
    return (np.exp(-np.logaddexp(0.0, -logits)), answers), options


def without_class_weights(generator, n, spread):
    """Draw logits and answers for a focal loss in which a yes weighs as much as a no."""
    arguments, _ = logits_and_answers(generator, n, spread)
    return arguments, {"alpha": None}


def _binary_entry(**facts):
    """Return an entry with what the losses of a yes-or-no question share."""
    shared = {
        "twins": classification,
        "input": "logits $z$, any shape",
        "target": "probabilities $y$ of yes, usually 0 or 1, integers or floats of the shape of the input",
        "divides_by": "the number of elements",
        "divisor": lambda sample: sample[0][0].size,
        "robust": False,
        "calibrated": True,
        "sample": logits_and_answers,
        "slice": ALONG_A_YES,
    }
    return Entry(**{**shared, **facts})


def _multi_class_entry(**facts):
    """Return an entry with what the losses of logits and a class share."""
    shared = {
        "twins": classification,
        "symbols": f"{SOFTMAX_AND_CONDITION}.",
        "input": "logits $z$, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        "target": LABELS,
        "divides_by": "the number of rows whose target is not ignore_index",
        "divisor": lambda sample: len(sample[0][1]),
        "convex": False,
        "robust": False,
        "calibrated": True,
        "sample": contested_logits_and_labels,
        "slice": ALONG_THE_TRUE_LOGIT,
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    Entry(
        name="cross_entropy",
        twins=classification,
        title="Cross-entropy",
        use_for=("pick one class", "mark pixels"),
        first_choice_for=("pick one class",),
        helps_against=("rare classes", "unequal costs"),
        because="Probabilities are wanted and the labels can be trusted; every other choice has to be compared with "
        "it. Class weights make a rare or dear class count more, and move the probabilities.",
        value=r"-\ln p_y, \quad p = \operatorname{softmax}(z)",
        gradient=r"p_j - [j = y]",
        symbols=f"{SOFTMAX_AND_CONDITION}. Of class probabilities $q$ the loss is $-\\sum_j q_j \\ln p_j$.",
        input="logits $z$, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        target=INDICES_OR_PROBABILITIES,
        divides_by=f"{WEIGHTS}; of class probabilities, the number of rows",
        divisor=lambda sample: len(sample[0][1]),
        minimiser="posterior",
        convex=True,
        lipschitz=math.sqrt(2),
        bound=None,
        robust=False,
        calibrated=True,
        limits=(
            "A confident wrong answer costs without bound, so wrong labels pull hard.",
            "Its probabilities tend to be over-confident once the training images are learnt.",
            "The mean of no targets is NaN.",
        ),
        torch="cross_entropy",
        difference="torch rounds the loss of a confident right answer to 0.",
        paper="I. J. Good, Rational decisions (1952)",
        url="https://doi.org/10.1111/j.2517-6161.1952.tb00104.x",
        chapter="formulas/classification",
        sample=logits_and_labels,
        slice=ALONG_THE_TRUE_LOGIT,
    ),
    _binary_entry(
        name="binary_cross_entropy",
        title="Binary cross-entropy of a probability",
        use_for=("answer yes or no",),
        because="The model puts out a probability, and its logit cannot be had: from a logit, the loss would keep "
        "more digits.",
        value=r"-y\max(\ln p, -100) - (1 - y)\max(\ln(1 - p), -100)",
        gradient=r"\frac{p - y}{\max(p(1 - p), 10^{-12})}",
        input="probabilities $p$ of yes, in [0, 1], any shape",
        minimiser="posterior",
        convex=True,
        lipschitz=1e12,
        bound=100.0,
        limits=(
            "A certain wrong answer costs 100 and not infinity, as in torch: where the truth gets a probability below "
            "4e-44 the loss is flat, and there it is not convex.",
            "The sigmoid of a float32 logit above 17 is 1, and no loss can recover what that has lost.",
            "Where p(1 - p) is below 1e-12, the gradient stays at 1e12 or less, as in torch: not the derivative.",
        ),
        torch="binary_cross_entropy",
        paper="I. J. Good, Rational decisions (1952)",
        url="https://doi.org/10.1111/j.2517-6161.1952.tb00104.x",
        chapter="formulas/classification",
        sample=probabilities_and_answers,
        slice=dataclasses.replace(ALONG_A_YES, label="probability, where the answer is yes", low=0.05, high=0.99),
        link=torch.sigmoid,
    ),
    _binary_entry(
        name="binary_cross_entropy_with_logits",
        title="Binary cross-entropy",
        use_for=("answer yes or no",),
        first_choice_for=("answer yes or no",),
        helps_against=("rare classes", "unequal costs"),
        because="Each question has an answer of its own, yes or no, and its probability is wanted. The option "
        "pos_weight makes a rare or dear yes count more, and moves the probabilities.",
        value=r"y\ln(1 + e^{-z}) + (1 - y)\ln(1 + e^z)",
        gradient=r"\sigma(z) - y",
        symbols=f"{LOGISTIC}.",
        minimiser="posterior",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=("A confident wrong answer costs without bound, so wrong labels pull hard.",),
        torch="binary_cross_entropy_with_logits",
        difference="torch rounds the loss of a confident right no to 0, and the gradient of a confident right yes.",
        paper="D. R. Cox, The regression analysis of binary sequences (1958)",
        url="https://doi.org/10.1111/j.2517-6161.1958.tb00292.x",
        chapter="formulas/classification",
    ),
    _multi_class_entry(
        name="nll_loss",
        title="Negative log-likelihood",
        use_for=("pick one class",),
        because="Log-probabilities are there already, as from a mixture or a flow; behind log_softmax it is the "
        "cross-entropy.",
        value=r"-\ln p_y",
        gradient=r"-[j = y] \text{ in } \ln p_j",
        symbols=f"{CONDITION}.",
        input=r"log-probabilities $\ln p$, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        divides_by=WEIGHTS,
        minimiser="posterior",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=(
            "It does not check that the input is normalised: raw logits make it fall without end.",
            "A log-probability next to 0 has lost the small loss of a confident right answer.",
            "The mean of no targets is NaN.",
        ),
        torch="nll_loss",
        paper="R. A. Fisher, On the mathematical foundations of theoretical statistics (1922)",
        url="https://doi.org/10.1098/rsta.1922.0009",
        chapter="formulas/classification",
        sample=log_probabilities_and_labels,
        slice=dataclasses.replace(ALONG_THE_TRUE_LOGIT, at=_log_probabilities_of_the_true_class),
        link=lambda logits: logits.log_softmax(-1),
    ),
    _multi_class_entry(
        name="focal_loss",
        title="Focal loss",
        use_for=("pick one class",),
        helps_against=("rare classes", "overconfidence"),
        because="Easy samples are so many that they drown the hard ones, or the cross-entropy ends up too sure; gamma "
        "turns down what is already right.",
        value=r"-(1 - p_y)^\gamma \ln p_y, \quad p = \operatorname{softmax}(z)",
        gradient=r"(1 - p_y)^{\gamma - 1} (1 - p_y - \gamma p_y \ln p_y)\,(p_j - [j = y])",
        symbols=rf"$\gamma$: how fast attention falls as $p_y$ grows; {SOFTMAX_AND_CONDITION}.",
        minimiser="flattened posterior",
        lipschitz=FOCAL_SLOPE * math.sqrt(2),
        bound=None,
        setting=r"with $\gamma = 2$",
        limits=(
            "The probabilities it learns are more even than those of the classes.",
            "A confident wrong answer costs without bound, so wrong labels pull hard.",
        ),
        paper="T.-Y. Lin et al., Focal loss for dense object detection (2017)",
        url="https://arxiv.org/abs/1708.02002",
        chapter="formulas/imbalance",
    ),
    _binary_entry(
        name="sigmoid_focal_loss",
        title="Binary focal loss",
        use_for=("answer yes or no",),
        helps_against=("rare classes",),
        because="Nearly all answers are an easy no, as for the anchors of a detector; gamma turns these down, and "
        "alpha sets what a yes weighs against a no.",
        value=r"w\, d^\gamma\, \bigl(-y\ln p - (1 - y)\ln(1 - p)\bigr), "
        r"\quad d = y(1 - p) + (1 - y)p, \; p = \sigma(z)",
        gradient=r"w\, d^\gamma \bigl(d - \gamma(1 - d)\ln(1 - d)\bigr)\,(1 - 2y) \text{ for } y \in \{0, 1\}",
        symbols=rf"$\gamma$: how fast attention falls with $d$, the probability of the wrong answer; "
        rf"$w = \alpha y + (1 - \alpha)(1 - y)$, or 1 where alpha is None; {LOGISTIC}.",
        minimiser="flattened posterior",
        convex=False,
        lipschitz=FOCAL_SLOPE,
        bound=None,
        setting=r"with $\gamma = 2$ and without alpha",
        limits=(
            "The probabilities it learns are more even than those of the classes; alpha shifts them too.",
            "For a soft target its minimum lies beyond the target: with gamma 2 that of 0.8 is at 0.95.",
        ),
        paper="T.-Y. Lin et al., Focal loss for dense object detection (2017)",
        url="https://arxiv.org/abs/1708.02002",
        chapter="formulas/imbalance",
        sample=without_class_weights,
    ),
    _multi_class_entry(
        name="generalized_cross_entropy",
        title="Generalised cross-entropy",
        use_for=("pick one class",),
        helps_against=("wrong labels",),
        because="Some labels are wrong: a sample whose label the model finds implausible loses its pull, the more so "
        "the larger q.",
        value=r"\frac{1 - p_y^q}{q}, \quad p = \operatorname{softmax}(z)",
        gradient=r"p_y^q\,(p_j - [j = y])",
        symbols=rf"$q$: from 0, cross-entropy, to 1, half the absolute error $\sum_j |p_j - [j = y]|$; "
        rf"{SOFTMAX_AND_CONDITION}. The upper bound is $1/q$, the Lipschitz constant "
        r"$\sqrt 2\, q^q / (1 + q)^{1 + q}$.",
        setting="with $q = 0.7$",
        minimiser="sharpened posterior",
        lipschitz=0.7**0.7 / 1.7**1.7 * math.sqrt(2),
        bound=1 / 0.7,
        limits=(
            "A badly wrong answer has next to no gradient, so learning starts slowly, the more so the more classes.",
            "The probabilities it learns are surer than those of the classes.",
        ),
        paper="Z. Zhang, M. R. Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy "
        "labels (2018)",
        url="https://arxiv.org/abs/1805.07836",
        chapter="formulas/classification",
    ),
    _multi_class_entry(
        name="symmetric_cross_entropy",
        title="Symmetric cross-entropy",
        use_for=("pick one class",),
        helps_against=("wrong labels",),
        because="There are wrong labels, and the generalised cross-entropy learns too slowly: a cross-entropy turned "
        "low keeps the pace, and the larger second term, whose sum over the classes is constant, resists wrong "
        "labels.",
        value=r"-\alpha\ln p_y - \beta A (1 - p_y), \quad p = \operatorname{softmax}(z)",
        gradient=r"(\alpha - \beta A p_y)\,(p_j - [j = y])",
        symbols=rf"$\alpha$, $\beta$: the factors of cross-entropy and of its reverse; $A < 0$: what the logarithm "
        rf"of 0 is taken to be, the option log_zero; {SOFTMAX_AND_CONDITION}. With $b = -\beta A \ge \alpha$ the "
        r"Lipschitz constant is $\sqrt 2\,(\alpha + b)^2 / (4 b)$.",
        setting=r"with $\alpha = 0.1$, $\beta = 1$ and $A = -4$",
        minimiser="sharpened posterior",
        lipschitz=1.025**2 * math.sqrt(2),
        bound=None,
        limits=(
            "What the logarithm of 0 is taken to be is arbitrary; only its product with beta counts.",
            "The probabilities it learns are surer than those of the classes.",
        ),
        paper="Y. Wang et al., Symmetric cross entropy for robust learning with noisy labels (2019)",
        url="https://arxiv.org/abs/1908.06112",
        chapter="formulas/classification",
    ),
    _multi_class_entry(
        name="brier_loss",
        title="Brier score",
        use_for=("pick one class",),
        helps_against=("overconfidence",),
        because="Probabilities are wanted, and no single mistake, however sure, may cost more than 2, nor the last bit "
        "of certainty earn much; it is also a score by which forecasts are compared.",
        value=r"\sum_j (p_j - q_j)^2, \quad p = \operatorname{softmax}(z)",
        gradient=r"2 p_j \bigl(p_j - q_j - \sum_k p_k (p_k - q_k)\bigr)",
        symbols=f"{SOFTMAX}; of a class index $q_j = [j = y]$, 1 for the true class, else 0.",
        target=INDICES_OR_PROBABILITIES,
        minimiser="posterior",
        lipschitz=16 / 27 * math.sqrt(2),
        bound=2.0,
        limits=("A badly wrong answer has next to no gradient, so learning can stall there.",),
        paper="G. W. Brier, Verification of forecasts expressed in terms of probability (1950)",
        url="https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
        chapter="formulas/classification",
    ),
)

TOOLS = (
    Tool(
        name="class_balanced_weights",
        family="classification",
        title="Class-balanced weights",
        use_for=("pick one class",),
        helps_against=("rare classes",),
        serves=("the likeliest class",),
        because="Some classes have far more samples than others: these weights go into the cross-entropy, the first "
        "thing to try before another loss.",
        value=r"w_j \propto \frac{1 - \beta}{1 - \beta^{n_j}}, \quad \sum_j w_j = C",
        symbols=r"$w_j$: the weight of class $j$; $n_j$: its number of samples; $C$: the number of classes; $\beta$: "
        r"at 0 all classes weigh 1, at 1 each weighs as the inverse of its number.",
        purpose="It gives rare classes larger weights, from their numbers of samples.",
        limits=(
            "A class without a sample has no weight: the function refuses it.",
            "Weights move the minimiser away from the posterior: the probabilities tend to those of balanced classes.",
        ),
        paper="Y. Cui et al., Class-balanced loss based on effective number of samples (2019)",
        url="https://arxiv.org/abs/1901.05555",
        chapter="formulas/imbalance",
    ),
)
