"""The entries of the losses for choosing one class among several."""

import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Tool
from lib.reference import classification

CLASSES = 4
# The greatest (1 - p)^2 (1 - p - 2 p ln p), near p = 0.058: how steep the focal loss with gamma = 2 gets
FOCAL_SLOPE = 1.12898321857


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
        "input": "logits x, any shape",
        "target": "probabilities of yes t, usually 0 or 1, integers or floats of the shape of the input",
        "divides_by": "the number of elements",
        "divisor": lambda sample: sample[0][0].size,
        "robust": False,
        "calibrated": True,
        "sample": logits_and_answers,
    }
    return Entry(**{**shared, **facts})


def _multi_class_entry(**facts):
    """Return an entry with what the losses of logits and a class share."""
    shared = {
        "twins": classification,
        "input": "logits z, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        "target": "class indices y, integers of the shape of the input without C",
        "divides_by": "the number of rows that count",
        "divisor": lambda sample: len(sample[0][1]),
        "convex": False,
        "robust": False,
        "calibrated": True,
        "sample": contested_logits_and_labels,
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    Entry(
        name="cross_entropy",
        twins=classification,
        title="Cross-entropy",
        value=r"-\ln p_y, \quad p = \operatorname{softmax}(z)",
        gradient=r"p_j - [j = y]",
        input="logits, shape (N, C) or (N, C, d1, ..., dK)",
        target="class indices, int64, shape (N, d1, ..., dK), or class probabilities, floats of the shape of the input",
        divides_by="the weights of the targets that count; with class probabilities, the number of targets",
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
        chapter="mnist/train",
        sample=logits_and_labels,
    ),
    _binary_entry(
        name="binary_cross_entropy",
        title="Binary cross-entropy of a probability",
        value=r"-t\max(\ln p, -100) - (1 - t)\max(\ln(1 - p), -100)",
        gradient=r"\frac{p - t}{\max(p(1 - p), 10^{-12})}",
        input="probabilities of yes p, in [0, 1], any shape",
        minimiser="posterior",
        convex=True,
        lipschitz=1e12,
        bound=100.0,
        limits=(
            "A certain wrong answer costs 100 and not infinity, as in torch; below a probability of 4e-44 it is flat.",
            "The sigmoid of a float32 logit above 17 is 1, and what it has lost no loss can recover.",
            "Where p(1 - p) is below 1e-12 its gradient is smaller than the derivative, as in torch.",
        ),
        torch="binary_cross_entropy",
        paper="I. J. Good, Rational decisions (1952)",
        url="https://doi.org/10.1111/j.2517-6161.1952.tb00104.x",
        sample=probabilities_and_answers,
        link=torch.sigmoid,
    ),
    _binary_entry(
        name="binary_cross_entropy_with_logits",
        title="Binary cross-entropy",
        value=r"(1 - t)\ln(1 + e^x) + t\ln(1 + e^{-x})",
        gradient=r"\sigma(x) - t",
        minimiser="posterior",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=("A confident wrong answer costs without bound, so wrong labels pull hard.",),
        torch="binary_cross_entropy_with_logits",
        difference="torch rounds the loss of a confident right no to 0, and the gradient of a confident right yes.",
        paper="D. R. Cox, The regression analysis of binary sequences (1958)",
        url="https://doi.org/10.1111/j.2517-6161.1958.tb00292.x",
    ),
    _multi_class_entry(
        name="nll_loss",
        title="Negative log-likelihood",
        value=r"-x_y",
        gradient=r"-[j = y]",
        input="log-probabilities x, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        divides_by="the weights of the targets that count",
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
        sample=log_probabilities_and_labels,
        link=lambda logits: logits.log_softmax(-1),
    ),
    _multi_class_entry(
        name="focal_loss",
        title="Focal loss",
        value=r"-(1 - p_y)^\gamma \ln p_y, \quad p = \operatorname{softmax}(z)",
        gradient=r"(1 - p_y)^\gamma (1 - p_y - \gamma p_y \ln p_y)\, q_j \;(j \ne y), "
        r"\quad q \text{ the softmax among the rivals}",
        minimiser="flattened posterior",
        lipschitz=FOCAL_SLOPE * math.sqrt(2),
        bound=None,
        limits=(
            "The probabilities it learns are more even than those of the classes.",
            "A confident wrong answer costs without bound, so wrong labels pull hard.",
        ),
        paper="T.-Y. Lin et al., Focal loss for dense object detection (2017)",
        url="https://arxiv.org/abs/1708.02002",
    ),
    _binary_entry(
        name="sigmoid_focal_loss",
        title="Binary focal loss",
        value=r"\alpha_t\, d^\gamma\, \bigl(-t\ln p - (1 - t)\ln(1 - p)\bigr), "
        r"\quad d = t(1 - p) + (1 - t)p, \; p = \sigma(x)",
        gradient=r"\alpha_t\, d^\gamma \bigl(d - \gamma(1 - d)\ln(1 - d)\bigr)\,(1 - 2t) \text{ for } t \in \{0, 1\}",
        minimiser="flattened posterior",
        convex=False,
        lipschitz=FOCAL_SLOPE,
        bound=None,
        limits=(
            "The probabilities it learns are more even than those of the classes; alpha shifts them too.",
            "Its minimum for a soft target lies beyond the target: for 0.8 at 0.95.",
        ),
        paper="T.-Y. Lin et al., Focal loss for dense object detection (2017)",
        url="https://arxiv.org/abs/1708.02002",
        sample=without_class_weights,
    ),
    _multi_class_entry(
        name="generalized_cross_entropy",
        title="Generalised cross-entropy",
        value=r"\frac{1 - p_y^q}{q}, \quad p = \operatorname{softmax}(z)",
        gradient=r"p_y^q (1 - p_y)\, r_j \;(j \ne y), \quad r \text{ the softmax among the rivals}",
        minimiser="sharpened posterior",
        lipschitz=0.7**0.7 / 1.7**1.7 * math.sqrt(2),
        bound=1 / 0.7,
        limits=(
            "A badly wrong answer has next to no gradient, so learning starts slowly, the more so the more classes.",
            "The probabilities it learns are surer than those of the classes.",
        ),
        paper="Z. Zhang, M. R. Sabuncu, Generalized cross entropy loss for training with noisy labels (2018)",
        url="https://arxiv.org/abs/1805.07836",
    ),
    _multi_class_entry(
        name="symmetric_cross_entropy",
        title="Symmetric cross-entropy",
        value=r"-\alpha\ln p_y - \beta A (1 - p_y), \quad p = \operatorname{softmax}(z)",
        gradient=r"(1 - p_y)(\alpha - \beta A p_y)\, q_j \;(j \ne y), \quad q \text{ the softmax among the rivals}",
        minimiser="sharpened posterior",
        lipschitz=1.025**2 * math.sqrt(2),
        bound=None,
        limits=(
            "Its A, what the logarithm of 0 is taken to be, is an arbitrary number that sets its scale.",
            "The probabilities it learns are surer than those of the classes.",
        ),
        paper="Y. Wang et al., Symmetric cross entropy for robust learning with noisy labels (2019)",
        url="https://arxiv.org/abs/1908.06112",
    ),
    _multi_class_entry(
        name="brier_loss",
        title="Brier score",
        value=r"\sum_j (p_j - t_j)^2, \quad p = \operatorname{softmax}(z)",
        gradient=r"2 p_j \bigl(p_j - t_j - \sum_k p_k (p_k - t_k)\bigr)",
        target="class indices y, integers of the shape of the input without C, or class probabilities, of its shape",
        minimiser="posterior",
        lipschitz=16 / 27 * math.sqrt(2),
        bound=2.0,
        limits=("A badly wrong answer has next to no gradient, so learning can stall there.",),
        paper="G. W. Brier, Verification of forecasts expressed in terms of probability (1950)",
        url="https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2",
    ),
)

TOOLS = (
    Tool(
        name="class_balanced_weights",
        family="classification",
        title="Class-balanced weights",
        value=r"w_j \propto \frac{1 - \beta}{1 - \beta^{n_j}}, \quad \sum_j w_j = C",
        purpose="Weighs rare classes up, from their number of samples: between not at all and by the inverse.",
        limits=(
            "A class without a sample has no weight.",
            "Weights move the minimiser away from the posterior: the probabilities are those of balanced classes.",
        ),
        paper="Y. Cui et al., Class-balanced loss based on effective number of samples (2019)",
        url="https://arxiv.org/abs/1901.05555",
    ),
)
