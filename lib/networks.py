"""The networks that several chapters train on images of 28 x 28 pixels."""

from torch import nn


def document_network(classes: int = 10) -> nn.Sequential:
    """Return the document's network, 784-128-64-10 with ReLU, as it starts: 109 386 parameters for ten classes.

    Args:
        classes: the number of logits.

    Returns:
        From images, shape (N, 784), to logits, shape (N, classes).

    Example:
        >>> sum(parameter.numel() for parameter in document_network().parameters())
        109386
    """
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes))
