"""A multi-layer perceptron in NumPy with a backward pass derived by hand: to be read first, and then trained.

The parameters are a plain list: the weight of the first layer, its bias, the weight of the second, its bias, and so
on. A weight has the shape (outputs, inputs), a bias (outputs,), as in PyTorch; gradients come in a list like it.
Between two layers stands an activation, after the last there is none: it puts out logits.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lib.reference.classification import cross_entropy, cross_entropy_grad

Step = Callable[[list[np.ndarray]], None]


class Activation(NamedTuple):
    """A function of each number, and its slope, told from what the function returned: its input need not be kept."""

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


ACTIVATIONS = {
    "relu": Activation(lambda s: np.maximum(s, 0), lambda a: a > 0),
    "tanh": Activation(np.tanh, lambda a: 1 - a * a),
    "sigmoid": Activation(lambda s: np.tanh(s / 2) / 2 + 0.5, lambda a: a * (1 - a)),  # exp would overflow
}


def initial_parameters(
    sizes: Sequence[int], *, gain: float = math.sqrt(2), seed: int = 0, dtype: type = np.float32
) -> list[np.ndarray]:
    """Draw weights from a normal distribution with standard deviation gain / sqrt(inputs); biases are 0.

    A gain of sqrt(2) is He's choice for ReLU. Between layers of equal width, a gain of 1 is Glorot's (Xavier's).

    Args:
        sizes: numbers of inputs, of units in each hidden layer, and of classes, e.g. ``(784, 128, 64, 10)``.
        gain: the scale of the weights.
        seed: of the weights.
        dtype: of all parameters.

    Returns:
        Weight and bias of each layer, from the first to the last.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.

    Example:
        >>> [parameter.shape for parameter in initial_parameters((4, 3, 2))]
        [(3, 4), (3,), (2, 3), (2,)]
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two numbers, each at least 1, got {tuple(sizes)}")
    random = np.random.default_rng(seed)
    parameters = []
    for inputs, outputs in pairwise(sizes):
        weight = random.normal(0, gain / math.sqrt(inputs), (outputs, inputs))
        parameters += [weight.astype(dtype), np.zeros(outputs, dtype)]
    return parameters


def forward(parameters: list[np.ndarray], inputs: np.ndarray, activation: str = "relu") -> list[np.ndarray]:
    r"""Return what goes into each layer, and the logits: :math:`s_n = a_{n-1} w_n^\top + b_n`, :math:`a_n = f(s_n)`.

    Args:
        parameters: weight and bias of each layer.
        inputs: shape (N, inputs), of the parameters' dtype.
        activation: "relu", "tanh" or "sigmoid".

    Returns:
        The inputs, what each hidden layer puts out, shape (N, units), and the logits, shape (N, C): all that
        ``backward`` needs.

    Raises:
        TypeError: if inputs and parameters differ in dtype.
        ValueError: if the activation is unknown, or a shape does not fit.

    Example:
        >>> outputs = forward(initial_parameters((4, 3, 2)), np.ones((5, 4), np.float32))
        >>> [output.shape for output in outputs]
        [(5, 4), (5, 3), (5, 2)]
    """
    _check(parameters, inputs, activation)
    value = ACTIVATIONS[activation].value
    outputs = [inputs]
    for number, (weight, bias) in enumerate(_layers(parameters), start=1):
        sums = outputs[-1] @ weight.T + bias
        outputs.append(sums if 2 * number == len(parameters) else value(sums))
    return outputs


def slopes(
    parameters: list[np.ndarray], outputs: list[np.ndarray], slope: np.ndarray, activation: str = "relu"
) -> list[np.ndarray]:
    r"""Carry the slope of a loss back through the layers: :math:`g_{n-1} = (g_n w_n) \odot f'(s_{n-1})`.

    Args:
        parameters: weight and bias of each layer.
        outputs: of ``forward``.
        slope: the gradient of the loss in the logits, shape (N, C).
        activation: the one that ``forward`` was given.

    Returns:
        For each layer, from the first to the last, the gradient g of the loss in its sums s, shape (N, units).

    Raises:
        ValueError: if the activation is unknown, or the slope has not the shape of the logits.
    """
    _check(parameters, outputs[0], activation)
    if len(outputs) != len(parameters) // 2 + 1 or slope.shape != outputs[-1].shape:
        raise ValueError(
            f"a slope like the logits of {len(parameters) // 2} layers is wanted, got one of shape {slope.shape} for "
            f"logits of shape {outputs[-1].shape} and {len(outputs) - 1} layers' outputs"
        )
    slope_of = ACTIVATIONS[activation].slope
    found = [slope]
    for weight, hidden in zip(parameters[-2:0:-2], outputs[-2:0:-1], strict=True):
        found.append(found[-1] @ weight * slope_of(hidden))
    return found[::-1]


def backward(
    parameters: list[np.ndarray], outputs: list[np.ndarray], slope: np.ndarray, activation: str = "relu"
) -> list[np.ndarray]:
    r"""Return the gradient of a loss in all parameters: :math:`g_n^\top a_{n-1}`, and the sum of :math:`g_n`.

    Args:
        parameters: weight and bias of each layer.
        outputs: of ``forward``.
        slope: the gradient of the loss in the logits, shape (N, C).
        activation: the one that ``forward`` was given.

    Returns:
        One array for each parameter, of its shape.

    Raises:
        ValueError: if the activation is unknown, or the slope has not the shape of the logits.
    """
    gradients = []
    for g, before in zip(slopes(parameters, outputs, slope, activation), outputs, strict=False):
        gradients += [g.T @ before, g.sum(axis=0)]
    return gradients


def loss_and_gradients(
    parameters: list[np.ndarray], inputs: np.ndarray, labels: np.ndarray, activation: str = "relu"
) -> tuple[float, list[np.ndarray]]:
    """Return the mean cross-entropy of a batch, and its gradient in all parameters.

    Args:
        parameters: weight and bias of each layer.
        inputs: shape (N, inputs), of the parameters' dtype.
        labels: classes, integers, shape (N,).
        activation: "relu", "tanh" or "sigmoid".

    Returns:
        The loss, and one array for each parameter, of its shape.

    Raises:
        TypeError: if the labels are no integers, or inputs and parameters differ in dtype.
        ValueError: if the activation is unknown, a shape does not fit, or a label is no class.

    Example:
        >>> parameters = initial_parameters((4, 3, 2))
        >>> loss, gradients = loss_and_gradients(parameters, np.zeros((5, 4), np.float32), np.ones(5, int))
        >>> print(f"{loss:.4f}", gradients[-1])
        0.6931 [ 0.5 -0.5]
    """
    outputs = forward(parameters, inputs, activation)
    logits = outputs[-1]
    _check_labels(labels, logits)
    slope = (cross_entropy_grad(logits, labels) / len(labels)).astype(logits.dtype)
    return cross_entropy(logits, labels).mean().item(), backward(parameters, outputs, slope, activation)


def sgd(parameters: list[np.ndarray], *, lr: float) -> Step:
    """Return a function that takes gradients and moves the parameters, in place, by lr times them downhill."""

    def step(gradients):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= lr * gradient

    return step


def adam(
    parameters: list[np.ndarray], *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> Step:
    """Return a function that takes gradients and moves the parameters, in place, by a step of Adam.

    Args:
        parameters: what to move.
        lr: the learning rate.
        betas: how much of the running means of the gradient and of its square is kept.
        eps: added to the root of the mean square.

    Reference: D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", https://arxiv.org/abs/1412.6980.
    """
    means = [np.zeros_like(parameter) for parameter in parameters]
    squares = [np.zeros_like(parameter) for parameter in parameters]
    count = 0

    def step(gradients):
        nonlocal count
        count += 1
        rate, scale = lr / (1 - betas[0] ** count), math.sqrt(1 - betas[1] ** count)
        for parameter, mean, square, gradient in zip(parameters, means, squares, gradients, strict=True):
            mean += (1 - betas[0]) * (gradient - mean)
            square += (1 - betas[1]) * (gradient * gradient - square)
            parameter -= rate * mean / (np.sqrt(square) / scale + eps)

    return step


def train(
    parameters: list[np.ndarray],
    inputs: np.ndarray,
    labels: np.ndarray,
    batches: Iterable[np.ndarray],
    step: Step,
    activation: str = "relu",
) -> list[float]:
    """Train a network in place: for each batch the forward pass, the loss, the backward pass, and a step.

    Args:
        parameters: weight and bias of each layer.
        inputs: of all samples, one row for each, of the parameters' dtype.
        labels: theirs, integers.
        batches: for each step the row numbers of its samples.
        step: moves the parameters, given their gradients: ``sgd(parameters, lr=0.1)`` or ``adam(parameters)``.
        activation: "relu", "tanh" or "sigmoid".

    Returns:
        For each step the loss of its batch before the step.

    Raises:
        TypeError: if the labels are no integers, or inputs and parameters differ in dtype.
        ValueError: if there is not one label for each input, the activation is unknown, a shape does not fit, or a
            label is no class.

    Example:
        >>> inputs, labels = np.eye(2), np.array([0, 1])
        >>> parameters = initial_parameters((2, 2), dtype=np.float64)
        >>> losses = train(parameters, inputs, labels, [labels] * 200, sgd(parameters, lr=1))
        >>> losses[-1] < 0.01
        True
    """
    if len(inputs) != len(labels):
        raise ValueError(f"one label for each input is wanted, got {len(inputs)} inputs and {len(labels)} labels")
    losses = []
    for batch in batches:
        loss, gradients = loss_and_gradients(parameters, inputs[batch], labels[batch], activation)
        step(gradients)
        losses.append(loss)
    return losses


def accuracy(parameters: list[np.ndarray], inputs: np.ndarray, labels: np.ndarray, activation: str = "relu") -> float:
    """Return the share of the samples whose label has the largest logit.

    Args:
        parameters: weight and bias of each layer.
        inputs: shape (N, inputs), of the parameters' dtype.
        labels: classes, integers, shape (N,).
        activation: "relu", "tanh" or "sigmoid".

    Returns:
        A number between 0 and 1.

    Raises:
        TypeError: if the labels are no integers, or inputs and parameters differ in dtype.
        ValueError: if the activation is unknown, a shape does not fit, or a label is no class.
    """
    logits = forward(parameters, inputs, activation)[-1]
    _check_labels(labels, logits)
    return (logits.argmax(axis=1) == labels).mean().item()


def _layers(parameters):
    """Return pairs of weight and bias."""
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def _check(parameters, inputs, activation):
    """Raise TypeError or ValueError unless the parameters form a network that takes these inputs."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    if not parameters or len(parameters) % 2:
        raise ValueError(f"parameters must be a weight and a bias for each layer, got {len(parameters)} arrays")
    if inputs.ndim != 2 or len(inputs) == 0:
        raise ValueError(f"inputs must have the shape (N, {parameters[0].shape[-1]}), N at least 1, got {inputs.shape}")
    width = inputs.shape[1]
    for number, (weight, bias) in enumerate(_layers(parameters), start=1):
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"layer {number} gets {width} numbers: its weight must have the shape (units, {width}), its bias "
                f"(units,), got {weight.shape} and {bias.shape}"
            )
        width = len(weight)
    kinds = {array.dtype for array in (inputs, *parameters)}
    if len(kinds) > 1 or not np.issubdtype(inputs.dtype, np.floating):
        raise TypeError(f"inputs and parameters must be floats of one dtype, got {', '.join(sorted(map(str, kinds)))}")


def _check_labels(labels, logits):
    """Raise TypeError or ValueError unless there is a class for each row of logits."""
    rows, classes = logits.shape
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.shape != (rows,):
        raise ValueError(f"labels must have the shape ({rows},), one for each row of inputs, got {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
