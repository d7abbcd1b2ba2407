"""Focal, Dice, GIoU, supervised contrastive and triplet beside the libraries that have them."""

from collections.abc import Callable
from typing import NamedTuple

import mpmath
import torch

from benchmarks.measure import Step, markdown, peak_memory, ratio, times, training_step
from lib import losses


class Comparison(NamedTuple):
    """One loss of ours and of peers, all with the same value.

    Attributes:
        arguments: draws the arguments of a large call, the first of which requires a gradient.
        extreme: draws arguments at which digits are easily lost.
        ours: the loss of the library.
        exact: the same in mpmath.
        peers: by name, a function that imports the peer and returns its loss.
    """

    arguments: Callable[[], tuple[torch.Tensor, ...]]
    extreme: Callable[[], tuple[torch.Tensor, ...]]
    ours: Callable[..., torch.Tensor]
    exact: Callable
    peers: dict[str, Callable[[], Callable[..., torch.Tensor]]]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def logits_and_classes(samples: int = 10_000, classes: int = 100, scale: float = 1.0):
    """Draw logits (N, C) and classes (N,)."""
    generator = _generator()
    logits = scale * torch.randn(samples, classes, generator=generator)
    return logits.requires_grad_(), torch.randint(classes, (samples,), generator=generator)


def confident_logits():
    """Return logits that are right by a margin of 12 to 20."""
    logits, target = logits_and_classes(64, 10)
    lead = torch.linspace(12, 20, 64)
    return logits.detach().scatter_add(1, target[:, None], lead[:, None]).requires_grad_(), target


def masks(samples: int = 16, side: int = 256, scale: float = 1.0):
    """Draw logits and masks (N, 1, H, W)."""
    generator = _generator()
    logits = scale * torch.randn(samples, 1, side, side, generator=generator)
    return logits.requires_grad_(), (torch.rand(logits.shape, generator=generator) < 0.3).float()


def confident_masks():
    """Return logits that are right everywhere, by 12 to 20."""
    _, target = masks(4, 16)
    return ((2 * target - 1) * torch.linspace(12, 20, target.numel()).reshape(target.shape)).requires_grad_(), target


def boxes(samples: int = 250_000, shift: float = 0.3):
    """Draw boxes (N, 4) and others near them."""
    generator = _generator()
    corner = 10 * torch.rand(samples, 2, generator=generator)
    target = torch.cat([corner, corner + 0.1 + torch.rand(samples, 2, generator=generator)], 1)
    corner = corner + shift * torch.randn(samples, 2, generator=generator)
    size = 0.1 + torch.rand(samples, 2, generator=generator)
    return torch.cat([corner, corner + size], 1).requires_grad_(), target


def nearly_equal_boxes():
    """Return boxes that are off by a millionth."""
    _, target = boxes(64)
    return (target * (1 + 1e-6)).requires_grad_(), target


def embeddings_and_labels(samples: int = 1024, features: int = 128, labels: int = 32):
    """Draw embeddings (N, D) and labels (N,)."""
    generator = _generator()
    rows = torch.randn(samples, features, generator=generator).requires_grad_()
    return rows, torch.randint(labels, (samples,), generator=generator)


def clustered_embeddings():
    """Return two embeddings of each label, close together and far from all others."""
    labels = torch.arange(32) % 16
    return (torch.eye(16)[labels] + 1e-3 * torch.randn(32, 16, generator=_generator())).requires_grad_(), labels


def triplets(samples: int = 500, features: int = 100):
    """Draw anchors, positives and negatives (N, D)."""
    return tuple(x.requires_grad_() for x in torch.randn(3, samples, features, generator=_generator()).unbind())


def near_triplets():
    """Return triplets in which positive and negative are both almost at the anchor."""
    anchor, positive, negative = (x.detach() for x in triplets(64, 8))
    return tuple(x.requires_grad_() for x in (anchor, anchor + 1e-3 * positive, anchor + 1e-3 * negative))


def _kornia_focal():
    from kornia.losses import focal_loss

    return lambda logits, target: focal_loss(logits, target, alpha=None, gamma=2.0, reduction="sum")


def _monai_dice():
    from monai.losses import DiceLoss

    return DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="sum")


def _torchvision_giou():
    """Return the formula of torchvision.ops, which has no build for every machine."""

    def areas(box):
        return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])

    def loss(first, second):
        overlap = torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
        intersection = overlap.clamp(min=0).prod(1)
        union = areas(first) + areas(second) - intersection
        hull = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(1)
        return (1 - intersection / (union + 1e-7) + (hull - union) / (hull + 1e-7)).sum()

    return loss


def _metric_learning_supcon():
    from pytorch_metric_learning.losses import SupConLoss

    return SupConLoss(temperature=0.1)


def _metric_learning_triplet():
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.reducers import SumReducer

    measure = TripletMarginLoss(margin=1.0, distance=LpDistance(normalize_embeddings=False), reducer=SumReducer())

    def loss(anchor, positive, negative):
        places = torch.arange(3 * len(anchor)).reshape(3, -1)
        return measure(torch.cat([anchor, positive, negative]), indices_tuple=tuple(places))

    return loss


def _torch_triplet():
    return lambda *points: torch.nn.functional.triplet_margin_loss(*points, reduction="sum")


def exact_focal(logits, target):
    """Return the sum of the focal losses, gamma 2, in 50 digits."""
    total = mpmath.mpf(0)
    for row, true in zip(logits.tolist(), target.tolist(), strict=True):
        odds = [mpmath.exp(mpmath.mpf(z) - mpmath.mpf(row[true])) for j, z in enumerate(row) if j != true]
        rivals = mpmath.fsum(odds)
        total += (rivals / (1 + rivals)) ** 2 * mpmath.log1p(rivals)
    return total


def exact_dice(logits, target):
    """Return the sum of the Dice losses, smooth 1, in 50 digits."""
    total = mpmath.mpf(0)
    for row, mask in zip(logits.flatten(1).tolist(), target.flatten(1).tolist(), strict=True):
        probabilities = [1 / (1 + mpmath.exp(-mpmath.mpf(z))) for z in row]
        overlap = mpmath.fsum(p * t for p, t in zip(probabilities, mask, strict=True))
        total += 1 - (2 * overlap + 1) / (mpmath.fsum(probabilities) + sum(mask) + 1)
    return total


def exact_giou(first, second):
    """Return the sum of the GIoU losses in 50 digits."""
    total = mpmath.mpf(0)
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        a, b = [mpmath.mpf(x) for x in a], [mpmath.mpf(x) for x in b]
        sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in range(2)]
        hull = mpmath.fprod(max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in range(2))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        union = sum(areas) - sides[0] * sides[1]
        total += 1 - sides[0] * sides[1] / union + (hull - union) / hull
    return total


def exact_supervised_contrastive(rows, labels):
    """Return the mean over the anchors, temperature 0.1, in 50 digits."""
    rows = [[mpmath.mpf(x) for x in row] for row in rows.tolist()]
    unit = [[x / mpmath.sqrt(mpmath.fdot(row, row)) for x in row] for row in rows]
    labels, losses = labels.tolist(), []
    for i, anchor in enumerate(unit):
        others = [j for j in range(len(unit)) if j != i]
        similarity = {j: mpmath.fdot(anchor, unit[j]) * 10 for j in others}
        log_sum = mpmath.log(mpmath.fsum(mpmath.exp(s) for s in similarity.values()))
        positives = [j for j in others if labels[j] == labels[i]]
        losses.append(mpmath.fsum(log_sum - similarity[j] for j in positives) / len(positives))
    return mpmath.fsum(losses) / len(losses)


def exact_triplet(anchor, positive, negative):
    """Return the sum of the triplet losses, margin 1, in 50 digits; without the 1e-6 that torch adds."""
    total = mpmath.mpf(0)
    for a, p, n in zip(anchor.tolist(), positive.tolist(), negative.tolist(), strict=True):
        distances = [
            mpmath.sqrt(mpmath.fsum((mpmath.mpf(x) - mpmath.mpf(y)) ** 2 for x, y in zip(a, other, strict=True)))
            for other in (p, n)
        ]
        total += max(0, 1 + distances[0] - distances[1])
    return total


COMPARISONS = {
    "focal_loss": Comparison(
        logits_and_classes,
        confident_logits,
        lambda *a: losses.focal_loss(*a, gamma=2.0, reduction="sum"),
        exact_focal,
        {"kornia": _kornia_focal},
    ),
    "dice_loss": Comparison(
        masks, confident_masks, lambda *a: losses.dice_loss(*a, reduction="sum"), exact_dice, {"MONAI": _monai_dice}
    ),
    "giou_loss": Comparison(
        boxes,
        nearly_equal_boxes,
        lambda *a: losses.giou_loss(*a, reduction="sum"),
        exact_giou,
        {"torchvision's formula": _torchvision_giou},
    ),
    "supervised_contrastive_loss": Comparison(
        embeddings_and_labels,
        clustered_embeddings,
        losses.supervised_contrastive_loss,
        exact_supervised_contrastive,
        {"pytorch-metric-learning": _metric_learning_supcon},
    ),
    "triplet_margin_loss": Comparison(
        triplets,
        near_triplets,
        lambda *a: losses.triplet_margin_loss(*a, eps=0.0, reduction="sum"),
        exact_triplet,
        {"pytorch-metric-learning": _metric_learning_triplet, "torch": _torch_triplet},
    ),
}


def _case(name: str, who: str) -> Step:
    comparison = COMPARISONS[name]
    loss = comparison.ours if who == "ours" else comparison.peers[who]()
    return training_step(loss, *comparison.arguments())


CASES = {name: (lambda who, name=name: _case(name, who)) for name in COMPARISONS}


def report() -> str:
    """Return the table as Markdown. Ours is level where the peer needs as much or more; 5 % are within the noise."""
    rows = []
    for name, comparison in COMPARISONS.items():
        functions = {"ours": comparison.ours} | {peer: make() for peer, make in comparison.peers.items()}
        turns = times({who: _case(name, who) for who in functions})
        extreme = comparison.extreme()
        with mpmath.workdps(50):
            exact = comparison.exact(*(x.detach() for x in extreme))
        for who, loss in functions.items():
            needs = (
                ratio(turns[who], turns["ours"]),
                peak_memory("benchmarks.peers", name, who),
                float(abs(loss(*extreme).item() - exact) / exact),
            )
            if who == "ours":
                ours = needs
                rows.append((f"`{name}`", *needs, ""))
                continue
            level = [
                what
                for what, peer, own in zip(("time", "memory", "error"), needs, ours, strict=True)
                if peer >= 0.95 * own
            ]
            rows.append((f"by {who}", *needs, ", ".join(level) or "nothing"))
    head = (
        "loss",
        "time by ours",
        "peak memory, MiB",
        "relative error where digits are easily lost",
        "ours is level in",
    )
    return markdown(head, rows)
