"""The entries of the losses for finding objects: boxes and masks."""

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice
from lib.catalog._symbols import LOGISTIC
from lib.reference import detection

PIXELS = 64
AREAS = "$A$ and $B$: input and target, and their areas; $I$ and $U$: the areas of their intersection and union"
CHANGE = "$d$: how what follows changes as an edge of the input moves"
CENTRES = (
    f"{AREAS}; $\\rho$: the distance of the two centres; $c$: the diagonal of the smallest box around both; {CHANGE}"
)
MASKS = (
    "$p_i$ and $y_i$: probability and mask of pixel $i$ of one class, over which the sums run; $s$: the option smooth, "
    f"in pixels; {LOGISTIC}. With class indices, $p$ is the softmax over the classes, and the factor $p_i (1 - p_i)$ "
    "of the gradient gives way to the derivatives of the softmax."
)


def _boxes(generator, n, spread):
    """Draw pairs of boxes (n, 4) of every size and proportion; now and then, of n = 1, crossed needles far apart."""
    centre = spread * generator.standard_normal((2, n, 2))
    size = spread * np.exp(generator.normal(-1.0, 1.0, (2, n, 2)))
    if n == 1 and generator.random() < 0.2:
        size = spread * np.array([[[1e-3, 1e-1]], [[1e-1, 1e-3]]])
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1)
    return tuple(boxes), {}


def _found_boxes(generator):
    """Return boxes that are their targets."""
    (_, target), options = _boxes(generator, 6, 1.0)
    return (target, target), options


def _masks(uncertain, **options):
    """Return a function that draws logits and binary masks (n, 1, PIXELS).

    Of n = 1 it draws now and then what costs the most, and what is felt the most: all is empty, and found to be so,
    but for a few uncertain pixels, which have the masks ``uncertain``.
    """

    def sample(generator, n, spread):
        masks = generator.integers(2, size=(n, 1, PIXELS)).astype(float)
        logits = spread * generator.standard_normal(masks.shape)
        draw = generator.random() if n == 1 else 1.0
        if draw < 0.05:
            logits = 100.0 * (1 - 2 * masks)
        elif draw < 0.6:
            masks = np.zeros_like(masks)
            masks[..., : len(uncertain)] = uncertain
            logits = np.full_like(masks, -100.0)
            logits[..., : len(uncertain)] = generator.uniform(-2.0, 0.5, len(uncertain))
        return (logits, masks), options

    return sample


def _found_masks(generator):
    """Return logits that are as sure of the masks as a float64 can be."""
    masks = generator.integers(2, size=(6, 1, PIXELS)).astype(float)
    return (1e4 * (2 * masks - 1), masks), {}


def _box_entry(**facts):
    """Return an entry with what the losses of two boxes share."""
    shared = {
        "twins": detection,
        "input": "boxes $(x_1, y_1, x_2, y_2)$ with $x_1 \\le x_2$ and $y_1 \\le y_2$, shape (..., 4), in any unit",
        "target": "boxes of the same shape and unit, floats or integers",
        "divides_by": "the number of boxes",
        "divisor": lambda sample: len(sample[0][0]),
        "minimiser": "the target box",
        "convex": False,
        "lipschitz": None,
        "sample": _boxes,
        "slice": Slice("shift of the box, in widths", -2.5, 2.5, lambda shift: (UNIT + shift * SIDEWAYS, UNIT)),
        "optimum": _found_boxes,
    }
    return Entry(**{**shared, **facts})


def _mask_entry(**facts):
    """Return an entry with what the losses of masks share."""
    shared = {
        "twins": detection,
        "symbols": MASKS,
        "input": "logits $z$, shape (N, C, d1, ..., dK)",
        "target": "masks $y$, numbers in [0, 1] or booleans of the shape of the input, or class indices, "
        "integers of shape (N, d1, ..., dK)",
        "divides_by": "the number of samples times the number of classes",
        "divisor": lambda sample: len(sample[0][0]),
        "minimiser": "the mask itself, with probabilities of 0 and 1",
        "convex": False,
        "bound": 1.0,
        "optimum": _found_masks,
        "slice": Slice("logit of the mask's pixels, the opposite of the others", -6.0, 6.0, _mask_found),
    }
    return Entry(**{**shared, **facts})


UNIT = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).double()
SIDEWAYS = torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
TALLER = torch.tensor([0.0, -0.5, 0.0, 0.5]).double()  # on both sides, so that the centre stays


def _mask_found(logit):
    """Return logits that are right about the mask, half of the pixels, by the number."""
    mask = (torch.arange(PIXELS) % 2).double().reshape(1, 1, PIXELS)
    return logit * (2 * mask - 1), mask


ENTRIES = (
    _box_entry(
        name="iou_loss",
        title="IoU loss",
        use_for=("find boxes",),
        because="The boxes overlap their targets already, and overlap is what the detector is judged by.",
        value=r"1 - \frac{I}{U}",
        gradient=r"\frac{\partial\ell}{\partial x_2} = \frac{I\,h_A}{U^2} \text{ outside } B,"
        r"\quad -\frac{h_I\,(B + h_A (w_A - w_I))}{U^2} \text{ within}",
        symbols=f"{AREAS}; $w$ and $h$: widths and heights. For $x_1$ the sign is the opposite, for $y_1$ and $y_2$ "
        "the axes are exchanged.",
        bound=1.0,
        limits=("Boxes that lie apart all cost 1, however far, and get no gradient.",),
        paper="P. Jaccard, The distribution of the flora in the alpine zone (1912)",
        url="https://doi.org/10.1111/j.1469-8137.1912.tb05611.x",
    ),
    _box_entry(
        name="giou_loss",
        title="Generalised IoU loss",
        use_for=("find boxes",),
        helps_against=("boxes that miss",),
        because="Boxes may miss their targets, and nothing but areas should count, in whatever unit the two axes have.",
        value=r"1 - \frac{I}{U} + \frac{C - U}{C}",
        gradient=r"d\Bigl(1 - \frac{I}{U}\Bigr) + \frac{U\,dC}{C^2} - \frac{dU}{C}",
        symbols=f"{AREAS}; $C$: the area of the smallest box around both; {CHANGE}.",
        bound=2.0,
        limits=(
            "A box within its target, or around it, is told its size but not where its centre should be.",
            "Boxes that lie apart first grow until they meet, and shrink only then.",
        ),
        paper="H. Rezatofighi et al., Generalized intersection over union (2019)",
        url="https://arxiv.org/abs/1902.09630",
    ),
    _box_entry(
        name="diou_loss",
        title="Distance IoU loss",
        use_for=("find boxes",),
        helps_against=("boxes that miss",),
        because="Boxes may miss their targets and should get there soon: the distance of the centres falls directly.",
        value=r"1 - \frac{I}{U} + \frac{\rho^2}{c^2}",
        gradient=r"d\Bigl(1 - \frac{I}{U}\Bigr) + \frac{d\rho^2}{c^2} - \frac{\rho^2\,dc^2}{c^4}",
        symbols=f"{CENTRES}.",
        bound=2.0,
        limits=(
            "Between boxes of one centre the penalty is 0, whatever their proportions.",
            "Both axes need the same unit, which IoU and GIoU do not ask for.",
        ),
        paper="Z. Zheng et al., Distance-IoU loss (2020)",
        url="https://arxiv.org/abs/1911.08287",
    ),
    _box_entry(
        name="ciou_loss",
        title="Complete IoU loss",
        use_for=("find boxes",),
        first_choice_for=("find boxes",),
        helps_against=("boxes that miss",),
        because="Overlap, centre and proportions are all to be right, from boxes that may miss at first: the usual "
        "start.",
        value=r"1 - \frac{I}{U} + \frac{\rho^2}{c^2} + \alpha v,"
        r"\qquad v = \tfrac{4}{\pi^2}\bigl(\arctan\tfrac{w_B}{h_B} - \arctan\tfrac{w_A}{h_A}\bigr)^2,"
        r"\quad \alpha = \frac{v}{1 - I/U + v}",
        gradient=r"d\Bigl(1 - \frac{I}{U} + \frac{\rho^2}{c^2}\Bigr) + \alpha\,dv",
        symbols=f"{CENTRES}; $w$ and $h$: widths and heights, so that $v$ compares proportions; $\\alpha$: its "
        "weight, a constant in the gradient.",
        bound=2.5,
        slice=Slice(
            "height of the box, in those of its target", 0.2, 4.0, lambda height: (UNIT + (height - 1) * TALLER, UNIT)
        ),
        limits=(
            "Its gradient takes alpha as a constant, so it is not the derivative of its value.",
            "Boxes of the right proportions and the wrong size have v = 0.",
        ),
        paper="Z. Zheng et al., Distance-IoU loss (2020)",
        url="https://arxiv.org/abs/1911.08287",
    ),
    _mask_entry(
        name="dice_loss",
        title="Dice loss",
        use_for=("mark pixels",),
        first_choice_for=("mark pixels",),
        helps_against=("rare classes",),
        because="The foreground is small, and its overlap counts, not the many pixels around it; with the "
        "cross-entropy added, it is the usual start.",
        value=r"1 - \frac{2\sum p_i y_i + s}{\sum p_i + \sum y_i + s}, \quad p = \sigma(z)",
        gradient=r"\frac{1 - \ell - 2 y_i}{\sum p_i + \sum y_i + s}\; p_i (1 - p_i)",
        setting="for a single mask, with smooth 1",
        lipschitz=0.1295915866775208,  # at one pixel of the mask and one outside it; found numerically
        limits=(
            "A pixel that is surely wrong gets next to no gradient, as the sigmoid saturates.",
            "With smooth 0 a class that is absent costs 1, however small the probabilities.",
            "Its probabilities are over-confident: 0 and 1 cost the least even where the mask is uncertain.",
        ),
        paper="F. Milletari, N. Navab, S.-A. Ahmadi, V-Net (2016), with squares in the denominator",
        url="https://arxiv.org/abs/1606.04797",
        sample=_masks([1.0, 0.0]),
    ),
    _mask_entry(
        name="tversky_loss",
        title="Tversky loss",
        use_for=("mark pixels",),
        helps_against=("rare classes", "unequal costs"),
        because="The foreground is small, and to miss a part of it costs more than to mark too much, or less.",
        value=r"1 - \frac{T + s}{T + \alpha F_+ + \beta F_- + s}, \quad T = \sum p_i y_i, "
        r"\; F_+ = \sum p_i (1 - y_i), \; F_- = \sum (1 - p_i) y_i",
        symbols=r"$T$, $F_+$, $F_-$: true positives, false positives and false negatives, in pixels; $\alpha$ and "
        rf"$\beta$: the prices of false positives and of false negatives; {MASKS}",
        gradient=r"\frac{(T + s)(\alpha (1 - y_i) - \beta y_i) - (\alpha F_+ + \beta F_-)\,y_i}"
        r"{(T + \alpha F_+ + \beta F_- + s)^2}\; p_i (1 - p_i)",
        setting=r"for a single mask, with $\alpha = 0.3$, $\beta = 0.7$ and smooth 1",
        lipschitz=0.1031197389230383,  # at two pixels of the mask; found numerically
        limits=(
            "The balance of alpha and beta has to be found by trial.",
            "A pixel that is surely wrong gets next to no gradient, as the sigmoid saturates.",
            "With smooth 0 a class that is absent costs 1, however small the probabilities, unless alpha is 0.",
        ),
        paper="S. S. M. Salehi, D. Erdogmus, A. Gholipour, Tversky loss function for image segmentation using 3D fully "
        "convolutional deep networks (2017)",
        url="https://arxiv.org/abs/1706.05721",
        sample=_masks([1.0, 1.0], alpha=0.3, beta=0.7),
    ),
)
