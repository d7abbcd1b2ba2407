"""The entries of the losses that say how far one distribution is from another."""

import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import CONDITION, SOFTMAX, TEMPERATURE
from lib.reference import divergence

CLASSES = 3


def _log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _log_probabilities_and_probabilities(generator, n, spread):
    """Draw log-probabilities (n, C), and probabilities from even ones to nearly certain ones."""
    target = generator.dirichlet(np.full(CLASSES, 0.3), n)
    return (_log_softmax(spread * generator.standard_normal((n, CLASSES))), target), {}


def _two_probabilities(generator, n, spread):
    """Draw two vectors of probabilities for each of n rows, the more certain the larger the spread."""
    return tuple(np.exp(_log_softmax(spread * generator.standard_normal((n, CLASSES)))) for _ in range(2)), {}


def _means_and_log_variances(generator, n, spread):
    """Draw means (n, D), and logarithms of variances no larger than 30, for their exponentials must not overflow."""
    means, log_variances = spread * generator.standard_normal((2, n, CLASSES))
    return (means, np.clip(log_variances, -30, 30)), {}


def _student_teacher_label(generator, n, spread):
    """Draw the logits of a student and a teacher (n, C), and labels (n,)."""
    student, teacher = spread * generator.standard_normal((2, n, CLASSES))
    return (student, teacher, generator.integers(CLASSES, size=n)), {}


def _log_of_target(generator):
    target = generator.dirichlet(np.ones(CLASSES), 5)
    return (np.log(target), target), {}


def _target_itself(generator):
    target = generator.dirichlet(np.ones(CLASSES), 5)
    return (target.copy(), target), {}


def _mean_zero(generator):
    return (np.zeros((5, CLASSES)), generator.standard_normal((5, CLASSES))), {}


def _teacher_alone(generator):
    (_, teacher, label), _ = _student_teacher_label(generator, 5, 1.0)
    return (teacher.copy(), teacher, label), {"weight": 1.0}


TARGET = torch.tensor([[0.8, 0.1, 0.1]]).double()
LOGIT = "logit of the first class, beside two of 0; "


def _logits(logit):
    """Return the logits (1, C) of the first class and zeros."""
    return torch.nn.functional.pad(logit[None, None], (0, CLASSES - 1))


def _student_of_a_teacher(logit):
    return _logits(logit), TARGET.log(), torch.tensor([0])


ENTRIES = (
    Entry(
        name="kl_div",
        twins=divergence,
        title="Kullback-Leibler divergence",
        use_for=("match a distribution",),
        first_choice_for=("match a distribution",),
        serves=("a probability",),
        because="The target is a distribution, and what it holds possible must not be ruled out.",
        value=r"\sum_j q_j (\ln q_j - \ln p_j)",
        gradient=r"-q_j \text{ in } \ln p_j",
        input=r"log-probabilities $\ln p$, any shape",
        target="probabilities $q$ (with log_target, their logarithms), floats of the shape of the input",
        divides_by="the number of elements, that is samples times classes; with reduction='batchmean', the number of "
        "samples",
        divisor=lambda sample: sample[0][0].size,
        minimiser="the target's distribution",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=(
            "An input that gives a class no probability costs infinity as soon as the class occurs.",
            "Its mean is not the divergence per sample: it divides by the number of classes too.",
            "Where the two agree, the difference of their logarithms has few digits left.",
        ),
        torch="kl_div",
        difference="torch gives NaN where the target's probability is 0 and the input minus infinity.",
        paper="S. Kullback, R. A. Leibler, On information and sufficiency (1951)",
        url="https://doi.org/10.1214/aoms/1177729694",
        chapter="formulas/likelihood",
        sample=_log_probabilities_and_probabilities,
        slice=Slice(f"{LOGIT}target 80, 10, 10 %", -4.0, 6.0, lambda logit: (_logits(logit).log_softmax(1), TARGET)),
        optimum=_log_of_target,
    ),
    Entry(
        name="js_divergence",
        twins=divergence,
        title="Jensen-Shannon divergence",
        use_for=("match a distribution",),
        because="Two distributions are compared as equals, and each may rule out what the other holds possible: the "
        "result stays finite.",
        value=r"\tfrac12 \sum_j \Bigl(p_j \ln\frac{p_j}{m_j} + q_j \ln\frac{q_j}{m_j}\Bigr), "
        r"\quad m = \tfrac12 (p + q)",
        gradient=r"\tfrac12 \ln\frac{p_j}{m_j} \text{ in } p_j",
        input="probabilities $p$, floats, shape (..., C)",
        target="probabilities $q$, floats of the shape of the input",
        divides_by="the number of pairs of vectors",
        divisor=lambda sample: len(sample[0][0]),
        minimiser="the target's distribution",
        convex=True,
        lipschitz=None,
        bound=math.log(2),
        limits=("Where no class has a chance in both, it is $\\ln 2$, however far apart the two are.",),
        paper="J. Lin, Divergence measures based on the Shannon entropy (1991)",
        url="https://doi.org/10.1109/18.61115",
        chapter="formulas/likelihood",
        sample=_two_probabilities,
        slice=Slice(f"{LOGIT}target 80, 10, 10 %", -4.0, 6.0, lambda logit: (_logits(logit).softmax(1), TARGET)),
        optimum=_target_itself,
    ),
    Entry(
        name="gaussian_kl",
        twins=divergence,
        title="Kullback-Leibler divergence between a Gaussian and the standard normal",
        use_for=("match a distribution",),
        because="A Gaussian of independent components is to stay near the standard normal, as the code of a "
        "variational autoencoder.",
        value=r"\tfrac12 \sum_j \bigl(\mu_j^2 + e^{v_j} - 1 - v_j\bigr)",
        gradient=r"\mu_j \text{ in } \mu_j, \quad \tfrac12 (e^{v_j} - 1) \text{ in } v_j",
        input=r"means $\mu$, shape (..., D)",
        target="log-variances $v$, floats of the shape of the means",
        divides_by="the number of vectors, not of their dimensions",
        divisor=lambda sample: len(sample[0][0]),
        minimiser="mean 0 and log-variance 0, the standard normal",
        convex=True,
        lipschitz=None,
        bound=None,
        limits=(
            "In a variational autoencoder it can win over the reconstruction: the latent vector then says nothing.",
        ),
        paper="D. P. Kingma, M. Welling, Auto-encoding variational Bayes (2014)",
        url="https://arxiv.org/abs/1312.6114",
        chapter="formulas/likelihood",
        sample=_means_and_log_variances,
        slice=Slice(
            "log-variance of one dimension, mean 0",
            -3.0,
            2.0,
            lambda log_variance: (torch.zeros(1, 1).double(), log_variance[None, None]),
        ),
        optimum=_mean_zero,
        differentiable=(0, 1),
    ),
    Entry(
        name="distillation_loss",
        twins=divergence,
        title="Distillation loss",
        use_for=("match a distribution", "pick one class"),
        serves=("the likeliest class",),
        because="A small model learns from a large one, which says how wrong each of the wrong classes is.",
        value=r"w\,\tau^2 \sum_j q_j \ln\frac{q_j}{p_j} - (1 - w) \ln \operatorname{softmax}(z)_y, \quad"
        r" p = \operatorname{softmax}(z / \tau), \; q = \operatorname{softmax}(t / \tau)",
        gradient=r"w\,\tau (p_j - q_j) + (1 - w) \bigl(\operatorname{softmax}(z)_j - [j = y]\bigr)",
        symbols=rf"$w$: the weight of the teacher, the option weight; {TEMPERATURE}; {SOFTMAX}; {CONDITION}. The "
        r"Lipschitz constant is $(w \tau + 1 - w) \sqrt 2$.",
        setting=r"with $\tau = 4$ and $w = 0.9$",
        input="logits $z$ of the student, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        target="logits $t$ of the teacher, of the shape of the input, and class indices $y$, integers of that shape "
        "without C, or class probabilities",
        divides_by="the number of rows whose target is not ignore_index",
        divisor=lambda sample: len(sample[0][2]),
        minimiser="the teacher's probabilities for $w = 1$, the label for $w = 0$, something between for others",
        convex=True,
        lipschitz=(0.9 * 4.0 + 0.1) * math.sqrt(2),
        bound=None,
        limits=(
            "A teacher that is sure and wrong teaches its errors.",
            "The temperature and the weight of the teacher have to be tuned.",
        ),
        paper="G. Hinton, O. Vinyals, J. Dean, Distilling the knowledge in a neural network (2015)",
        url="https://arxiv.org/abs/1503.02531",
        chapter="formulas/likelihood",
        sample=_student_teacher_label,
        slice=Slice(f"{LOGIT}it is true, and the teacher's answer 80, 10, 10 %", -4.0, 6.0, _student_of_a_teacher),
        optimum=_teacher_alone,
    ),
)
