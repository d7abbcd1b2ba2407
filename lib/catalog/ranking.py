"""The entries of the losses that learn an order."""

import math

import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import LOGISTIC, SOFTMAX
from lib.reference import ranking

ITEMS = 3
FAR = 60.0  # a lead whose cost is nothing next to any other


def _one_against_one(generator, n, spread):
    """Draw the scores of n chosen items, and of one other beside each."""
    return tuple(spread * generator.standard_normal((2, n))), {}


def _one_against_a_sample(generator, n, spread):
    """Draw the scores of n true items, and of sampled ones (n, K)."""
    return (spread * generator.standard_normal(n), spread * generator.standard_normal((n, ITEMS))), {}


def _scores_and_grades(generator, n, spread):
    """Draw scores and grades of n lists, (n, L)."""
    return tuple(spread * generator.standard_normal((2, n, ITEMS))), {}


def _far_above_the_other(generator):
    (_, other), _ = _one_against_one(generator, 5, 1.0)
    return (other + FAR, other), {}


def _far_above_the_sample(generator):
    (_, samples), _ = _one_against_a_sample(generator, 5, 1.0)
    return (samples.max(1) + FAR, samples), {}


def _scores_equal_to_the_grades(generator):
    (_, grades), _ = _scores_and_grades(generator, 5, 1.0)
    return (grades.copy(), grades), {}


def _list(score):
    """Return the scores of a list, the first its own and the others 0, and its grades."""
    return torch.nn.functional.pad(score[None, None], (0, ITEMS - 1)), torch.tensor([[2.0, 0.0, 0.0]]).double()


ENTRIES = (
    Entry(
        name="bpr_loss",
        twins=ranking,
        title="Bayesian personalised ranking (BPR)",
        use_for=("order items",),
        helps_against=("no negative examples",),
        because="Only choices are known, clicks or purchases, and each user's list is to begin with what that user "
        "would choose.",
        value=r"\ln(1 + e^{z_j - z_i})",
        gradient=r"-\sigma(z_j - z_i) \text{ in } z_i, \quad \text{the opposite in } z_j",
        symbols=f"{LOGISTIC}.",
        input="scores $z_i$ of the chosen items, shape (N,)",
        target="scores $z_j$ of items that were not chosen, floats, shape (N,) or (N, K)",
        divides_by="the number of pairs",
        divisor=lambda sample: sample[0][1].size,
        minimiser="the chosen item far above the other",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=(
            "An item that nobody has seen counts as not chosen.",
            "No lead is ever enough: without a penalty on the scores' parameters they grow without end.",
        ),
        paper="S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme, BPR: Bayesian personalized ranking from "
        "implicit feedback (2009)",
        url="https://arxiv.org/abs/1205.2618",
        sample=_one_against_one,
        slice=Slice("lead of the chosen item", -6.0, 6.0, lambda lead: (lead[None], torch.zeros(1).double())),
        optimum=_far_above_the_other,
        differentiable=(0, 1),
    ),
    Entry(
        name="sampled_softmax_loss",
        twins=ranking,
        title="Sampled softmax",
        use_for=("order items", "pick one class"),
        helps_against=("many classes", "no negative examples"),
        serves=("the likeliest class",),
        because="One of very many items is the true one, and to score all of them at each step would cost too much.",
        value=r"\ln\Bigl(1 + \sum_j e^{d_j}\Bigr), \quad d_j = (z_j - \ln c_j) - (z_y - \ln c_y)",
        gradient=r"p_j = \frac{e^{d_j}}{1 + \sum_k e^{d_k}} \text{ in } z_j, \quad -\sum_j p_j \text{ in } z_y",
        symbols=r"$c_j$ and $c_y$: how often the item is expected in the sample, the exponentials of target_log_q "
        "and input_log_q; 1 where these are not given.",
        input="logits $z_y$ of the true items, shape (N,)",
        target="logits $z_j$ of the sampled items, floats, shape (N, K)",
        divides_by="the number of rows",
        divisor=lambda sample: len(sample[0][0]),
        minimiser="the true item far above the sample",
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=(
            "On average it is smaller than the cross-entropy over all items; the gap closes as the sample grows.",
            "Without the correction by the expected counts, it learns how popular an item is with the sampler, too.",
            "The true item in its own sample works against itself unless it is marked as an accidental hit.",
        ),
        paper="Y. Bengio, J.-S. Senecal, Adaptive importance sampling to accelerate training of a neural probabilistic "
        "language model (2008)",
        url="https://doi.org/10.1109/TNN.2007.912312",
        sample=_one_against_a_sample,
        slice=Slice(
            f"lead of the true item over {ITEMS} others",
            -6.0,
            6.0,
            lambda lead: (lead[None], torch.zeros(1, ITEMS).double()),
        ),
        optimum=_far_above_the_sample,
        differentiable=(0, 1),
    ),
    Entry(
        name="listwise_softmax_loss",
        twins=ranking,
        title="Listwise softmax (ListNet)",
        use_for=("order items",),
        first_choice_for=("order items",),
        because="Whole lists have grades of relevance, and the first place matters most.",
        value=r"-\sum_j q_j \ln p_j, \quad p = \operatorname{softmax}(z), \; q = \operatorname{softmax}(y)",
        gradient=r"p_j - q_j",
        symbols=rf"{SOFTMAX}; without softmax_target $q_j = y_j / \sum_k y_k$.",
        input="logits $z$ of the items of a list, shape (..., L)",
        target="relevance grades $y$ (without softmax_target, amounts), numbers of the shape of the input",
        divides_by="the number of lists that have an item (and, without softmax_target, any relevance)",
        divisor=lambda sample: len(sample[0][0]),
        minimiser="scores equal to the grades, up to a constant of each list",
        convex=True,
        lipschitz=math.sqrt(2),
        bound=None,
        limits=(
            "Its least value is the entropy of $q$, not 0.",
            "The unit of the grades matters: grades twice as large make the best item nearly certain.",
            "It looks at the first place only, not at the order of the others.",
        ),
        paper="Z. Cao, T. Qin, T.-Y. Liu, M.-F. Tsai, H. Li, Learning to rank: from pairwise approach to listwise "
        "approach (2007)",
        url="https://doi.org/10.1145/1273496.1273513",
        sample=_scores_and_grades,
        slice=Slice("lead of the best of three items, of grade 2; the others have 0", -4.0, 8.0, _list),
        optimum=_scores_equal_to_the_grades,
    ),
)
