"""The entries of the losses that learn from samples without labels."""

import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import CONDITION, SOFTMAX
from lib.reference import semi_supervised

STEEPEST = 1.5434046384182085  # where x / (2 cosh(x/2))^2, the slope of the entropy of two classes, is largest


def _logits(generator, n, spread):
    """Draw the logits of two classes."""
    return (spread * generator.standard_normal((n, 2)),), {}


def _views(**options):
    """Return a function that draws the logits of a student and those, mostly surer, of a teacher."""

    def sample(generator, n, spread):
        return (_logits(generator, n, spread)[0][0], 30 * _logits(generator, n, spread)[0][0]), options

    return sample


def _certain(generator):
    """Return predictions that are certain."""
    return (800.0 * np.eye(2)[generator.integers(2, size=6)],), {}


def _as_told(generator):
    """Return predictions that are certain of the class that the other view favours."""
    (_, target), options = _views(threshold=0.95)(generator, 6, 1.0)
    return (800.0 * np.eye(2)[target.argmax(1)], target), options


def _in_agreement(**options):
    """Return a function that draws students with the probabilities of their teachers."""

    def optimum(generator):
        target = _logits(generator, 6, 1.0)[0][0]
        return (target + generator.standard_normal((6, 1)), target), options

    return optimum


def _row(logit):
    """Return the logits of two classes, the second 0."""
    return torch.nn.functional.pad(logit[None, None], (0, 1))


def _student_of_a_sure_teacher(logit):
    return _row(logit), torch.tensor([[0.97, 0.03]]).double().log()


BESIDE_A_TEACHER = Slice(
    "logit of the first of two classes; the teacher gives it 97 %", -6.0, 8.0, _student_of_a_sure_teacher
)


def _entry(**facts):
    """Return an entry with what these losses share."""
    shared = {
        "twins": semi_supervised,
        "use_for": ("pick one class",),
        "helps_against": ("few labels",),
        "serves": ("the likeliest class",),
        "input": "logits $z$ of the student, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        "target": "logits $t$ of the teacher, of the shape of the input; no gradient flows to them",
        "divides_by": "the number of rows of logits",
        "divisor": lambda sample: len(sample[0][0]),
        "bound": None,
        "slice": BESIDE_A_TEACHER,
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    _entry(
        name="entropy_loss",
        title="Entropy minimisation",
        because="Samples without labels lie in clusters, and the border of the classes should run between these.",
        value=r"-\sum_j p_j \ln p_j, \quad p = \operatorname{softmax}(z)",
        gradient=r"-p_j (\ln p_j + \ell)",
        symbols=rf"{SOFTMAX}. Of $C$ classes the upper bound is $\ln C$.",
        setting="for two classes",
        input="logits $z$, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        target="none",
        minimiser="certainty, of whichever class",
        convex=False,
        lipschitz=math.sqrt(2) * STEEPEST / (2 * math.cosh(STEEPEST / 2)) ** 2,
        bound=math.log(2),
        limits=(
            "It makes the model surer, not righter: what it has wrong it learns by heart.",
            "Alone, it is content with the same class for all samples.",
        ),
        paper="Y. Grandvalet, Y. Bengio, Entropy regularization, in Semi-supervised learning (2006)",
        url="https://doi.org/10.7551/mitpress/9780262033589.001.0001",
        sample=_logits,
        slice=Slice("logit of the first of two classes", -6.0, 6.0, lambda logit: (_row(logit),)),
        optimum=_certain,
    ),
    _entry(
        name="pseudo_label_loss",
        title="Pseudo-labels (FixMatch)",
        because="Samples without labels can be distorted without changing class: what is sure of a weakly distorted "
        "view is taught to a strongly distorted one.",
        value=r"-[q_{\hat y} \ge c] \ln p_{\hat y}, \quad"
        r" p = \operatorname{softmax}(z), \; q = \operatorname{softmax}(t)",
        gradient=r"[q_{\hat y} \ge c]\,(p_j - [j = \hat y])",
        symbols=rf"$\hat y$: the pseudo-label, the class with the largest $q_j$; $c$: the option threshold; {SOFTMAX}; "
        f"{CONDITION}.",
        input="logits $z$ of a strongly distorted view, shape (C,), (N, C) or (N, C, d1, ..., dK)",
        target="logits $t$ of a weakly distorted view, of the shape of the input; no gradient flows to them",
        divides_by="the number of rows of logits, those that are not believed included",
        minimiser="certainty of the class that the other view is sure of",
        convex=True,
        lipschitz=math.sqrt(2),
        limits=(
            "A wrong guess that is sure enough is taught as if it were true.",
            "Where the model is rarely sure, nearly nothing is learnt.",
        ),
        paper="K. Sohn et al., FixMatch: simplifying semi-supervised learning with consistency and confidence (2020)",
        url="https://arxiv.org/abs/2001.07685",
        sample=_views(threshold=0.95),
        optimum=_as_told,
    ),
    _entry(
        name="consistency_loss, mse",
        title="Consistency, mean square (mean teacher)",
        because="Samples without labels should get one answer whatever the noise, and a teacher that is wrong must "
        "not pull hard: value and slope are bounded.",
        value=r"\frac1C \sum_j (p_j - q_j)^2, \quad p = \operatorname{softmax}(z), \; q = \operatorname{softmax}(t)",
        gradient=r"\tfrac2C p_j \bigl(p_j - q_j - \textstyle\sum_k p_k (p_k - q_k)\bigr)",
        symbols=rf"$C$: the number of classes; {SOFTMAX}. The upper bound is $2/C$, the Lipschitz constant "
        r"$16 \sqrt 2 / (27 C)$.",
        setting="for two classes",
        minimiser="the teacher's probabilities",
        convex=False,
        lipschitz=math.sqrt(2) * 8 / 27,
        bound=1.0,
        limits=(
            "A student that is sure of something else has nearly no gradient.",
            "It shrinks as classes are added: the mean is over them too.",
        ),
        paper="A. Tarvainen, H. Valpola, Mean teachers are better role models (2017)",
        url="https://arxiv.org/abs/1703.01780",
        sample=_views(kind="mse"),
        optimum=_in_agreement(kind="mse"),
    ),
    _entry(
        name="consistency_loss, kl",
        title="Consistency, Kullback-Leibler",
        because="Samples without labels should get one answer under strong distortions, and the teacher can be "
        "trusted: where it is sure it pulls hard.",
        value=r"\sum_j q_j \ln\frac{q_j}{p_j}, \quad p = \operatorname{softmax}(z), \; q = \operatorname{softmax}(t)",
        gradient="p_j - q_j",
        symbols=f"{SOFTMAX}.",
        minimiser="the teacher's probabilities",
        convex=True,
        lipschitz=math.sqrt(2),
        limits=("It has no upper bound: a teacher that is sure and wrong pulls as hard as a wrong label.",),
        paper="Q. Xie et al., Unsupervised data augmentation for consistency training (2020)",
        url="https://arxiv.org/abs/1904.12848",
        sample=_views(kind="kl"),
        optimum=_in_agreement(kind="kl"),
    ),
)
