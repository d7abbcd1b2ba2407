"""The entries of the losses for choosing one class among several."""

import math

from lib.catalog._entry import Entry
from lib.reference import classification

CLASSES = 4


def logits_and_labels(generator, n, spread):
    """Draw normal logits (n, C) and even labels (n,)."""
    return (spread * generator.standard_normal((n, CLASSES)), generator.integers(CLASSES, size=n)), {}


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
)
