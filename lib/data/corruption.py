"""Spoil good labels on purpose, by known rules: some become wrong, some classes become rare.

Whoever spoils them knows the truth, so that what a loss makes of spoilt labels can be measured.
"""

import math

import torch
from torch import Tensor


def flip_symmetric(labels: Tensor, rate: float, *, classes: int = 10, seed: int = 0) -> Tensor:
    """Return labels of which each, with probability ``rate``, has become one of the other classes, all alike.

    Here ``rate`` is the probability of a wrong label. Some papers draw the new label from all classes, so that it may
    be the old one: their rate r leaves r (C - 1) / C wrong labels.

    With the same seed, what is flipped at a low rate is flipped at a higher one, too, and to the same class.

    Args:
        labels: class indices in [0, classes), integers, any shape.
        rate: the probability of a wrong label, in [0, 1].
        classes: their number C, at least 2.
        seed: decides which labels are flipped, and to what.

    Returns:
        New labels of the same shape and dtype.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a label, ``rate`` or ``classes`` is out of range.

    Example:
        >>> flip_symmetric(torch.tensor([0, 1, 1]), 1.0, classes=2)
        tensor([1, 0, 0])
    """
    _check(labels, classes)
    _check_rate(rate)
    flipped, generator = _chosen(labels, rate, seed)
    onward = torch.randint(1, classes, labels.shape, generator=generator).to(labels)
    return torch.where(flipped, (labels + onward) % classes, labels)


def flip_pairwise(labels: Tensor, rate: float, *, classes: int = 10, seed: int = 0) -> Tensor:
    """Return labels of which each, with probability ``rate``, has become the next class: c + 1, and 0 after the last.

    With the same seed the same labels are flipped as by ``flip_symmetric``.

    Args:
        labels: class indices in [0, classes), integers, any shape.
        rate: the probability of a wrong label, in [0, 1].
        classes: their number C, at least 2.
        seed: decides which labels are flipped.

    Returns:
        New labels of the same shape and dtype.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a label, ``rate`` or ``classes`` is out of range.

    Example:
        >>> flip_pairwise(torch.tensor([0, 1, 2]), 1.0, classes=3)
        tensor([1, 2, 0])
    """
    _check(labels, classes)
    _check_rate(rate)
    flipped, _ = _chosen(labels, rate, seed)
    return torch.where(flipped, (labels + 1) % classes, labels)


def transition(kind: str, rate: float, *, classes: int = 10) -> Tensor:
    """Return the probabilities of the labels that a way of flipping gives to each true class.

    Args:
        kind: "symmetric" or "pairwise".
        rate: the probability of a wrong label, in [0, 1].
        classes: their number C, at least 2.

    Returns:
        Shape (C, C), float64: in row j and column k the probability that truth j is labelled k.

    Raises:
        TypeError: if ``classes`` is no integer or ``rate`` no number.
        ValueError: if an argument is out of range.

    Example:
        >>> transition("pairwise", 0.25, classes=3)
        tensor([[0.7500, 0.2500, 0.0000],
                [0.0000, 0.7500, 0.2500],
                [0.2500, 0.0000, 0.7500]], dtype=torch.float64)
    """
    _check_classes(classes)
    _check_rate(rate)
    stay = torch.eye(classes, dtype=torch.float64)
    ways = {"symmetric": (1 - stay) / (classes - 1), "pairwise": stay.roll(1, dims=1)}
    if kind not in ways:
        raise ValueError(f"kind must be one of {', '.join(map(repr, ways))}, got {kind!r}")
    return torch.lerp(stay, ways[kind], rate)


def long_tail(largest: int, ratio: float, *, classes: int = 10) -> Tensor:
    """Return counts of classes that fall from ``largest`` to ``largest / ratio``, each by the same factor.

    n_j = largest * ratio^(-j / (C - 1)), rounded. (With ratio 1 all are alike.)

    Args:
        largest: the count of the first class, at least ``ratio``.
        ratio: how many times as common the first class is as the last, at least 1.
        classes: their number C, at least 2.

    Returns:
        Shape (C,), int64, falling.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument is out of range, or if nothing would be left of the last class.

    Example:
        >>> long_tail(1000, 100, classes=5)
        tensor([1000,  316,  100,   32,   10])

    Source: Cui et al. (2019), https://arxiv.org/abs/1901.05555.
    """
    _check_classes(classes)
    if isinstance(largest, bool) or not isinstance(largest, int):
        raise TypeError(f"largest must be an integer, got {type(largest).__name__}")
    _check_number("ratio", ratio)
    if not 1 <= ratio <= largest:
        raise ValueError(f"ratio must be in [1, largest], got {ratio} for a largest count of {largest}")
    steps = torch.arange(classes, dtype=torch.float64) / (classes - 1)
    return (largest * ratio**-steps).round().long()


def make_rare(labels: Tensor, counts: Tensor, *, seed: int = 0) -> Tensor:
    """Draw as many samples of each class as wanted, and leave out the rest.

    With the same seed, the samples that a small count draws are among those of a larger one.

    Args:
        labels: class indices in [0, C), integers, shape (N,).
        counts: how many samples of each class to keep, integers, 0 or above, shape (C,).
        seed: decides which samples are drawn.

    Returns:
        The row numbers of the drawn samples, rising.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a label or a count is out of range, or if a class has too few samples.

    Example:
        >>> labels = torch.tensor([0, 1, 0, 1, 0])
        >>> labels[make_rare(labels, torch.tensor([3, 1]))].sort().values
        tensor([0, 0, 0, 1])
    """
    if not isinstance(counts, Tensor) or counts.is_floating_point() or counts.is_complex():
        raise TypeError(f"counts must be a tensor of integers, got {getattr(counts, 'dtype', type(counts).__name__)}")
    if counts.dim() != 1 or (counts < 0).any():
        raise ValueError(f"counts must have shape (C,) and be 0 or above, got {counts}")
    _check(labels, len(counts))
    if labels.dim() != 1:
        raise ValueError(f"labels must have shape (N,), got {tuple(labels.shape)}")
    there = torch.bincount(labels, minlength=len(counts))
    if (there < counts).any():
        few = int((there < counts).nonzero()[0])
        raise ValueError(f"class {few} has {there[few]} samples, {counts[few]} are wanted")
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    drawn = [shuffled[labels[shuffled] == number][:count] for number, count in enumerate(counts.tolist())]
    return torch.cat(drawn).sort().values


def _chosen(labels, rate, seed):
    """Return which labels to flip, and the generator after that draw: the same at every rate."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(labels.shape, generator=generator, dtype=torch.float64) < rate).to(labels.device), generator


def _check(labels, classes):
    _check_classes(classes)
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.numel() and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"labels must be in [0, {classes}), got {labels.min()} to {labels.max()}")


def _check_classes(classes):
    if isinstance(classes, bool) or not isinstance(classes, int):
        raise TypeError(f"classes must be an integer, got {type(classes).__name__}")
    if classes < 2:
        raise ValueError(f"classes must be 2 or more, got {classes}")


def _check_rate(rate):
    _check_number("rate", rate)
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be in [0, 1], got {rate}")


def _check_number(name, value):
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if math.isnan(value):
        raise ValueError(f"{name} must be a number, got NaN")
