"""The entries of the losses over sequences."""

import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import CONDITION, SOFTMAX
from lib.reference import sequence

TOKENS, FRAMES, LABELS, CLASSES = 2, 4, 2, 3
CERTAIN = 50.0  # a logit next to zeros that leaves nothing to the other classes


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.logaddexp.reduce(shifted, axis=-1, keepdims=True)


def _logits_and_tokens(generator, n, spread):
    """Draw the logits and the classes of n sequences of one or two tokens."""
    logits = spread * generator.standard_normal((n, TOKENS, CLASSES))
    lengths = generator.integers(1, TOKENS + 1, size=n).tolist()
    return (logits, generator.integers(CLASSES, size=(n, TOKENS))), {"lengths": lengths}


def _log_probabilities_and_labels(generator, n, spread):
    """Draw the log-probabilities of n sequences of three or four frames, and two labels for each.

    A tenth of each frame goes to no class: next to 0 the loss is a difference that has lost its digits.
    """
    log_probs = _log_softmax(spread * generator.standard_normal((FRAMES, n, CLASSES))) + np.log(0.9)
    labels = generator.integers(1, CLASSES, size=(n, LABELS))
    return (log_probs, labels, generator.integers(FRAMES - 1, FRAMES + 1, size=n), np.full(n, LABELS)), {}


def _certain_of_every_token(generator):
    (_, target), options = _logits_and_tokens(generator, 5, 1.0)
    return (CERTAIN * np.eye(CLASSES)[target], target), options


def _certain_of_one_alignment(generator):
    # Of one sequence: among many at once, draws that are better than a false optimum are rare.
    (_, labels, lengths, label_counts), _ = _log_probabilities_and_labels(generator, 1, 1.0)
    blanks = np.zeros(len(labels), dtype=int)
    alignment = np.stack([labels[:, 0], blanks, labels[:, 1], blanks])
    return (_log_softmax(CERTAIN * np.eye(CLASSES)[alignment]), labels, lengths, label_counts), {}


def _one_token_in_question(logit):
    """Return the logits and classes of a sequence whose first token may be wrong; all others are certain."""
    certain = torch.full((1, TOKENS - 1, 1), CERTAIN).double()
    logits = torch.cat([logit[None, None, None], certain], 1)
    return torch.nn.functional.pad(logits, (0, CLASSES - 1)), torch.zeros(1, TOKENS, dtype=torch.long)


def _one_alignment(logit):
    """Return frames that favour one alignment: first label, blank, second label, blank."""
    alignment = torch.tensor([[1], [0], [2], [0]])
    log_probs = (logit * torch.nn.functional.one_hot(alignment, CLASSES)).log_softmax(-1)
    return log_probs, torch.tensor([[1, 2]]), torch.tensor([FRAMES]), torch.tensor([LABELS])


ENTRIES = (
    Entry(
        name="sequence_cross_entropy",
        twins=sequence,
        title="Cross-entropy of the tokens of sequences",
        use_for=("predict a sequence",),
        first_choice_for=("predict a sequence",),
        serves=("a probability", "the likeliest class"),
        because="Every token has its label, as in translation and language models; padding is left out of the mean.",
        value=r"-\sum_t \ln \operatorname{softmax}(z_t)_{y_t}",
        gradient=r"\operatorname{softmax}(z_t)_j - [j = y_t] \text{ in } z_{tj}",
        symbols=rf"$t$: a token of the sequence, padding left out; {SOFTMAX}; {CONDITION}. Of $T$ tokens the "
        r"Lipschitz constant is $\sqrt{2 T}$.",
        setting="for a sequence of two tokens",
        input="logits $z$, shape (N, T, C)",
        target="class indices $y$, integers of shape (N, T); padding is padding_index, or beyond the length",
        divides_by="the number of all tokens that are no padding; with average='sequence', each sequence first by its "
        "own, then by the number of sequences that have any",
        divisor=lambda sample: sum(sample[1]["lengths"]),
        minimiser="all probability on the true class of every token",
        convex=True,
        lipschitz=math.sqrt(2 * TOKENS),
        bound=None,
        limits=(
            "A confident wrong answer costs without bound, so one wrong label pulls hard.",
            "The average of the means of several batches, or devices, is that of all only if weighted by their tokens.",
        ),
        paper="I. Sutskever, O. Vinyals, Q. V. Le, Sequence to sequence learning with neural networks (2014)",
        url="https://arxiv.org/abs/1409.3215",
        sample=_logits_and_tokens,
        slice=Slice(f"logit of one true token, beside {CLASSES - 1} of 0", -6.0, 6.0, _one_token_in_question),
        optimum=_certain_of_every_token,
    ),
    Entry(
        name="ctc_loss",
        twins=sequence,
        title="Connectionist temporal classification (CTC)",
        use_for=("predict a sequence",),
        helps_against=("no alignment",),
        because="The transcript is known but not when each of its parts occurs, as in speech and handwriting.",
        value=r"-\ln \sum_{\pi \text{ spells } y} \prod_t p_t(\pi_t)",
        gradient=r"-P(\pi_t = k \mid y) \text{ in } \ln p_t(k)",
        symbols=r"$\pi$: an alignment, a class or the blank for each frame $t$, which spells what is left when "
        r"repeats are merged and blanks then dropped; $P(\pi_t = k \mid y)$: the share of the sum that is due to "
        r"alignments with class $k$ in frame $t$. Of $T$ frames the Lipschitz constant is $\sqrt T$.",
        setting="for four frames",
        input=r"log-probabilities $\ln p_t(k)$ of class $k$ in frame $t$, shape (T, N, C) or (T, C)",
        target="class indices $y$ without the blank, integers of shape (N, S), or all one after the other; then the "
        "number of frames of each sequence and of labels of each target",
        divides_by="the length of each target (an empty one counts as 1), then the number of sequences",
        divisor=lambda sample: len(sample[0][1]) * LABELS,
        minimiser="all probability on alignments that spell the target",
        convex=False,
        lipschitz=math.sqrt(FRAMES),
        bound=None,
        limits=(
            "A target that needs more frames (one a label, one between equal labels) than there are costs infinity.",
            "It takes the frames as independent of each other, given the input: it learns no language.",
            "Nearly all frames learn to be blank, and the labels are short peaks.",
        ),
        torch="ctc_loss",
        difference="torch adds the probabilities to the gradient, which is right only behind log_softmax, gives NaN "
        "gradients where the loss is infinite, knows no half precision on the CPU and no second derivative, and takes "
        "labels that are out of range or blank without a word.",
        paper="A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, Connectionist temporal classification (2006)",
        url="https://doi.org/10.1145/1143844.1143891",
        sample=_log_probabilities_and_labels,
        slice=Slice("logit of the right class in each frame, beside others of 0", -6.0, 6.0, _one_alignment),
        optimum=_certain_of_one_alignment,
    ),
)
