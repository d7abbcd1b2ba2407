"""The entries of the losses on embeddings."""

import dataclasses
import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import CONDITION, TEMPERATURE
from lib.reference import metric

PAIR = "embeddings $v$ of the same shape, and for each pair +1 (similar) or -1 (dissimilar), shape (N,) or ()"
CHAIN = (
    "Embeddings are scaled to length 1 first, and the gradient is that in the scaled vector; the embedding gets the "
    "part of it that is at right angles to the embedding, divided by the embedding's length."
)
EAST_AND_WEST = np.array([[1.0, 0.0], [-1.0, 0.0]])


def _labelled_pairs(generator, n, spread):
    """Draw pairs of embeddings (n, 2) and labels, -1 or +1."""
    return (*(spread * generator.standard_normal((2, n, 2))), generator.choice([-1.0, 1.0], n)), {}


def _labelled_pairs_or_a_zero(generator, n, spread):
    """Draw the same; of n = 1 now and then a pair whose first embedding is 0, where the gradient is largest."""
    (first, second, label), options = _labelled_pairs(generator, n, spread)
    if n == 1 and generator.random() < 0.1:
        first = np.zeros_like(first)
    return (first, second, label), options


def _settled_pairs(generator):
    """Return similar pairs in one place, and dissimilar ones twice the margin apart."""
    (_, second, label), options = _labelled_pairs(generator, 6, 1.0)
    return (second + np.where(label == 1, 0.0, 2.0)[:, None], second, label), options


def _settled_directions(generator):
    """Return similar pairs of one direction, and dissimilar ones of opposite directions."""
    (_, second, label), options = _labelled_pairs(generator, 6, 10.0)
    return (100 * label[:, None] * second, second, label), options


def _triplets(generator, n, spread):
    """Draw anchors, positives and negatives (n, 2)."""
    return tuple(spread * generator.standard_normal((3, n, 2))), {}


def _settled_triplets(generator):
    """Return anchors at their positives, the negatives far away."""
    (_, positive, _), options = _triplets(generator, 6, 1.0)
    return (positive, positive, positive + 3.0), options


def _two_views(opposed):
    """Return a function that draws two views (n + 1, 2), of two pairs now and then the views that cost the most."""

    def sample(generator, n, spread):
        views = spread * generator.standard_normal((2, n + 1, 2))
        if n == 1 and generator.random() < 0.2:
            views = spread * opposed
        return tuple(views), {}

    return sample


_opposed_views = _two_views(np.array([np.tile(EAST_AND_WEST[0], (2, 1)), np.tile(EAST_AND_WEST[1], (2, 1))]))
_swapped_views = _two_views(np.array([EAST_AND_WEST, EAST_AND_WEST[::-1]]))


def _settled_views(generator):
    """Return two things on opposite sides, the views of each on the same one."""
    lengths = generator.uniform(0.5, 2.0, (2, 2, 1))
    return tuple(lengths * EAST_AND_WEST), {}


def _classes(generator, n, spread):
    """Draw n + 1 classes of two embeddings each; where n is above 1, the last has but one."""
    (first, second), options = _opposed_views(generator, n, spread)
    rows = 2 * (n + 1) - (n > 1)
    classes = np.tile(np.arange(n + 1), 2)[:rows]
    return (np.concatenate([first, second])[:rows], classes), options


def _settled_classes(generator):
    """Return two classes on opposite sides."""
    return (np.concatenate(_settled_views(generator)[0]), np.array([0, 1, 0, 1])), {}


def _anchors_with_a_positive(sample):
    """Count the embeddings whose class has another one."""
    _, first, count = np.unique(sample[0][1], return_inverse=True, return_counts=True)
    return (count[first] > 1).sum()


def _direction(angle):
    """Return the embedding of length 1 at an angle in degrees, shape (1, 2)."""
    return torch.stack([(angle * math.pi / 180).cos(), (angle * math.pi / 180).sin()])[None]


def _similar_pair(angle):
    return _direction(angle), _direction(0 * angle), torch.ones(1).double()


def _dissimilar_pair(distance):
    return torch.stack([distance, 0 * distance])[None], torch.zeros(1, 2).double(), -torch.ones(1).double()


def _anchor_on_its_way(distance):
    """Return an anchor as far from its positive as the number says, on the way to the negative, 2 away."""
    anchor = torch.stack([distance, 0 * distance])[None]
    return anchor, torch.zeros(1, 2).double(), torch.tensor([[2.0, 0.0]]).double()


def _views_of_two(angle):
    """Return two views of two things: of one at an angle to each other, of the other both opposite to the first."""
    first, second = _direction(angle), _direction(0 * angle)
    return torch.cat([first, -second]), torch.cat([second, -second])


def _classes_of_two(angle):
    return torch.cat(_views_of_two(angle)), torch.tensor([0, 1, 0, 1])


BETWEEN_VIEWS = Slice("angle between what belongs together, in degrees; others lie opposite", 0.0, 180.0, _views_of_two)


def _entry(**facts):
    """Return an entry with what the losses on embeddings share."""
    shared = {
        "twins": metric,
        "use_for": ("compare things",),
        "divides_by": "the number of pairs",
        "divisor": lambda sample: len(sample[0][0]),
        "convex": False,
        "lipschitz": None,
        "bound": None,
        "differentiable": (0, 1),
        "slice": BETWEEN_VIEWS,
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    _entry(
        name="contrastive_loss",
        title="Contrastive loss",
        helps_against=("few examples",),
        because="Of two things it is known whether they belong together, and a threshold on their distance will "
        "decide, as for faces.",
        value=r"\tfrac12 d^2 \text{ if similar},\quad \tfrac12 \max(0, m - d)^2 \text{ if not},"
        r"\qquad d = \lVert u - v \rVert",
        gradient=r"u - v \text{ if similar},\quad -\max(0, m - d)\,(u - v) / d \text{ if not}, "
        r"\quad \text{the opposite in } v",
        symbols="$d$: the Euclidean distance of the two; $m$: the margin.",
        input="embeddings $u$, shape (N, D) or (D,)",
        target=PAIR,
        minimiser="similar pairs in one place, dissimilar ones a margin or more apart",
        limits=(
            "A dissimilar pair in one place has no direction in which to part and gets no gradient.",
            "Similar pairs are pulled together until nothing of their differences is left.",
        ),
        paper="R. Hadsell, S. Chopra, Y. LeCun, Dimensionality reduction by learning an invariant mapping (2006)",
        url="https://doi.org/10.1109/CVPR.2006.100",
        chapter="formulas/embeddings",
        sample=_labelled_pairs,
        slice=Slice("distance of a dissimilar pair", 0.01, 2.0, _dissimilar_pair),
        optimum=_settled_pairs,
    ),
    _entry(
        name="triplet_margin_loss",
        title="Triplet loss",
        helps_against=("few examples",),
        because="Only likeness by comparison is known, nearer to this than to that, and negatives "
        "can be found that are farther than the positive, but not by the margin.",
        value=r"\max\bigl(0,\; m + d(a, b) - d(a, c)\bigr), \qquad d(u, v) = \lVert u - v + \varepsilon \rVert",
        gradient=r"[\ell > 0]\,\Bigl(\frac{a - b}{d(a, b)} - \frac{a - c}{d(a, c)}\Bigr)"
        r" \text{ in } a, \quad [\ell > 0]\,\frac{b - a}{d(a, b)} \text{ in } b,"
        r" \quad [\ell > 0]\,\frac{a - c}{d(a, c)} \text{ in } c",
        symbols=r"$m$: the margin; $d$: the Euclidean distance (the option p takes others), with $\varepsilon$, the "
        rf"option eps, added to each component, in the gradient too; {CONDITION}.",
        setting="with the Euclidean distance",
        input="embeddings $a$ of the anchors, shape (N, D) or (..., D)",
        target="embeddings $b$ of their positives and $c$ of their negatives, both of the same shape",
        divides_by="the number of triplets",
        minimiser="every anchor nearer to its positive than to its negative, by the margin or more",
        lipschitz=2.0,
        limits=(
            "Most random triplets soon cost nothing: it needs hard negatives to go on learning.",
            "With the hardest negatives from the start all embeddings may collapse to one point.",
        ),
        torch="triplet_margin_loss",
        difference="torch broadcasts, takes p = 0 and negative p, and overflows from distances of 1e19 in float32.",
        paper="V. Balntas, E. Riba, D. Ponsa, K. Mikolajczyk, Learning local feature descriptors with triplets and "
        "shallow convolutional neural networks (2016)",
        url="https://doi.org/10.5244/C.30.119",
        chapter="formulas/embeddings",
        sample=_triplets,
        slice=Slice("way of the anchor from its positive to its negative, 2 away", 0.01, 1.99, _anchor_on_its_way),
        optimum=_settled_triplets,
        differentiable=(0, 1, 2),
    ),
    _entry(
        name="cosine_embedding_loss",
        title="Cosine embedding loss",
        because="Of two things it is known whether they belong together, and only the direction of an embedding "
        "counts, not its length, as for signatures.",
        value=r"1 - \cos(u, v) \text{ if similar},\quad \max(0, \cos(u, v) - m) \text{ if not}",
        gradient=r"-g \text{ if similar}, \quad [\cos(u, v) > m]\,g \text{ if not}",
        symbols=r"$\cos(u, v) = u \cdot v / (|u|\,|v|)$, where $10^{-12}$ is added to the square of each length, "
        rf"so that none is 0; $m$: the margin; {CONDITION}; "
        r"$g = \frac{1}{|u|}\bigl(\frac{v}{|v|} - \cos(u, v)\,\frac{u}{|u|}\bigr)$, "
        r"and in $v$ the same with the two exchanged.",
        input="embeddings $u$, shape (N, D) or (D,)",
        target=PAIR,
        minimiser="similar pairs of one direction, dissimilar ones with a cosine of the margin or below",
        lipschitz=1 / math.sqrt(np.float32(1e-12)),  # torch's damping: 1e6, but for the rounding of 1e-12
        bound=2.0,
        limits=(
            "The gradient of a similar pair vanishes where the two point in opposite directions, the worst case.",
            "The shorter an embedding, the larger its gradient, up to 1e6 at length 0.",
        ),
        torch="cosine_embedding_loss",
        difference="torch takes 1 - cos as it stands and loses the digits of nearly parallel vectors; it broadcasts.",
        paper='J. Bromley et al., Signature verification using a "Siamese" time delay neural network (1993)',
        url="https://doi.org/10.1142/S0218001493000339",
        chapter="formulas/embeddings",
        sample=_labelled_pairs_or_a_zero,
        slice=Slice("angle of a similar pair, in degrees", 0.0, 180.0, _similar_pair),
        optimum=_settled_directions,
    ),
    _entry(
        name="nt_xent_loss",
        title="NT-Xent (SimCLR)",
        helps_against=("few examples", "few labels", "no negative examples"),
        because="There are no labels at all: two distorted views of a thing belong together, and all others in the "
        "batch are rivals.",
        value=r"-\ln\frac{e^{u_i \cdot u_{i'} / \tau}}{\sum_{j \ne i} e^{u_i \cdot u_j / \tau}}",
        gradient=r"\frac1\tau\sum_{j \ne i} (P_{ij} + P_{ji} - 2\,[j = i'])\,u_j"
        r" \quad \text{in } u_i, \text{ of the sum over all anchors}",
        symbols=r"$u_i$: all $2N$ embeddings, each an anchor; $u_{i'}$: the other view of the same thing; "
        rf"$P_{{ij}} = e^{{u_i \cdot u_j / \tau}} / \sum_{{k \ne i}} e^{{u_i \cdot u_k / \tau}}$; {TEMPERATURE}; "
        rf"{CONDITION}. {CHAIN} No anchor costs more than $\ln(1 + (2N - 2)\,e^{{2/\tau}})$.",
        setting=r"for the four anchors of $N = 2$ together, $\tau = 0.5$",
        input="embeddings $u$ of one view, shape (N, D)",
        target="embeddings $u$ of the other view, shape (N, D)",
        divides_by="the number of anchors, 2N",
        divisor=lambda sample: 2 * len(sample[0][0]),
        minimiser="both views of a thing in one direction, the others as far away as there is room",
        bound=4 * math.log(2 + math.exp(2 / 0.5)),
        limits=(
            "Things that are alike by chance are pushed apart as well.",
            "A small batch has few rivals and teaches little.",
        ),
        paper="T. Chen, S. Kornblith, M. Norouzi, G. Hinton, A simple framework for contrastive learning of visual "
        "representations (2020)",
        url="https://arxiv.org/abs/2002.05709",
        chapter="formulas/embeddings",
        sample=_opposed_views,
        optimum=_settled_views,
    ),
    _entry(
        name="info_nce_loss",
        title="InfoNCE",
        first_choice_for=("compare things",),
        helps_against=("few examples", "few labels", "no negative examples"),
        because="Each query has one match, and the other queries' matches, or a queue of old ones, are its rivals: "
        "the usual start for retrieval.",
        value=r"-\ln\frac{e^{a \cdot b / \tau}}{e^{a \cdot b / \tau} + \sum_j e^{a \cdot c_j / \tau}}",
        gradient=r"\frac1\tau \sum_j P_j\,(c_j - b) \text{ in } a, \quad -\frac1\tau \sum_j P_j\,a \text{ in } b,"
        r" \quad \frac1\tau P_j\,a \text{ in } c_j",
        symbols=r"$P_j = e^{a \cdot c_j / \tau} / (e^{a \cdot b / \tau} + \sum_k e^{a \cdot c_k / \tau})$; "
        rf"{TEMPERATURE}. {CHAIN} With $M$ negatives no query costs more than $\ln(1 + M e^{{2/\tau}})$.",
        setting=r"for the two queries of $N = 2$ together, each the other's negative, $\tau = 0.07$",
        input="embeddings $a$ of the queries, shape (N, D)",
        target="embeddings $b$ of their positives, shape (N, D), and $c$ of negatives, shape (M, D) or (N, M, D), "
        "by default the positives of the other queries",
        divides_by="the number of queries",
        minimiser="each query in the direction of its positive and away from the negatives",
        bound=2 * math.log1p(math.exp(2 / 0.07)),
        limits=(
            "As a bound of mutual information it never exceeds the logarithm of the number of candidates.",
            "A negative that happens to belong with the query is pushed away all the same.",
        ),
        paper="A. van den Oord, Y. Li, O. Vinyals, Representation learning with contrastive predictive coding (2018)",
        url="https://arxiv.org/abs/1807.03748",
        chapter="formulas/embeddings",
        sample=_swapped_views,
        optimum=_settled_views,
    ),
    _entry(
        name="clip_loss",
        title="CLIP loss",
        helps_against=("no negative examples",),
        because="Things of two kinds come in pairs, as images and their texts, and each kind should find the other.",
        value=r"-\tfrac12\ln\frac{e^{u_i \cdot v_i / \tau}}{\sum_j e^{u_i \cdot v_j / \tau}}"
        r" - \tfrac12\ln\frac{e^{u_i \cdot v_i / \tau}}{\sum_j e^{u_j \cdot v_i / \tau}}",
        gradient=r"\frac1\tau\sum_j \Bigl(\frac{P_{ij} + Q_{ij}}2 - [j = i]\Bigr)\,v_j"
        r" \text{ in } u_i, \quad \frac1\tau\sum_j \Bigl(\frac{P_{ji} + Q_{ji}}2 - [j = i]\Bigr)\,u_j"
        r" \text{ in } v_i, \text{ of the sum over all pairs}",
        symbols=r"$P_{ij} = e^{u_i \cdot v_j / \tau} / \sum_k e^{u_i \cdot v_k / \tau}$, the probability that "
        r"image $i$ gives to text $j$; $Q_{ij} = e^{u_i \cdot v_j / \tau} / \sum_k e^{u_k \cdot v_j / \tau}$, that "
        rf"which text $j$ gives to image $i$; {TEMPERATURE}; {CONDITION}. {CHAIN} No pair costs more than "
        r"$\ln(1 + (N - 1)\,e^{2/\tau})$.",
        setting=r"for the two pairs of $N = 2$ together, $\tau = 0.07$",
        input="embeddings $u$ of images, say, shape (N, D)",
        target="embeddings $v$ of their texts, shape (N, D)",
        minimiser="image and text of a pair in one direction, the other pairs as far away as there is room",
        bound=2 * math.log1p(math.exp(2 / 0.07)),
        limits=(
            "Two texts that fit one image are rivals all the same.",
            "A learned temperature may run away to 0 and has to be held above a floor.",
        ),
        paper="A. Radford et al., Learning transferable visual models from natural language supervision (2021)",
        url="https://arxiv.org/abs/2103.00020",
        chapter="formulas/embeddings",
        sample=_swapped_views,
        optimum=_settled_views,
    ),
    _entry(
        name="supervised_contrastive_loss",
        title="Supervised contrastive loss",
        helps_against=("few examples",),
        because="Classes are known, and a batch holds several samples of each: all of them attract each other, not "
        "one pair at a time.",
        value=r"-\frac{1}{K_i}\sum_{k \ne i:\, y_k = y_i} \ln\frac{e^{u_i \cdot u_k / \tau}}"
        r"{\sum_{j \ne i} e^{u_i \cdot u_j / \tau}}",
        gradient=r"\frac1\tau\sum_{j \ne i} (G_{ij} + G_{ji})\,u_j \quad \text{in } u_i",
        symbols=r"$K_i$: the number of the other embeddings of the class of $u_i$; "
        rf"$P_{{ij}} = e^{{u_i \cdot u_j / \tau}} / \sum_{{k \ne i}} e^{{u_i \cdot u_k / \tau}}$; {TEMPERATURE}; "
        rf"{CONDITION}; $G_{{ij}} = P_{{ij}} - [y_j = y_i] / K_i$, and 0 for all $j$ where $K_i = 0$. "
        f"The gradient is that of the sum over all anchors. {CHAIN}",
        setting=r"for the four anchors of two classes together, $\tau = 0.1$",
        input="embeddings $u$, shape (N, D)",
        target="classes $y$, integers, shape (N,)",
        divides_by="the number of anchors whose class has another embedding in the batch",
        divisor=_anchors_with_a_positive,
        minimiser="each class in one direction, the classes as far apart as there is room",
        bound=4 * math.log(2 + math.exp(2 / 0.1)),
        limits=(
            "A class with a single embedding in the batch is a rival only.",
            "Its least value grows with the size of the classes: the logarithm of the number of positives.",
        ),
        paper="P. Khosla et al., Supervised contrastive learning (2020)",
        url="https://arxiv.org/abs/2004.11362",
        chapter="formulas/embeddings",
        sample=_classes,
        slice=dataclasses.replace(BETWEEN_VIEWS, at=_classes_of_two),
        optimum=_settled_classes,
        differentiable=(0,),
    ),
)
