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


def small_cnn(classes: int = 10) -> nn.Sequential:
    """Return a convolutional network as small as the document's, as it starts: 107 922 parameters for ten classes.

    The first convolution reads patches of 6 x 6 pixels in strides of 2, so that most of the work is done on 12 x 12
    places and not on 28 x 28. Batch normalization and ReLU come after the pooling, where a quarter as many numbers go
    through them. Normalization takes the place of the biases before it.

    Args:
        classes: the number of logits.

    Returns:
        From images, shape (N, 1, 28, 28), to logits, shape (N, classes).

    Example:
        >>> sum(parameter.numel() for parameter in small_cnn().parameters())
        107922
    """
    return nn.Sequential(
        nn.Conv2d(1, 12, 6, stride=2, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 32, 3, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
