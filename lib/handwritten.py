r"""The equations of backpropagation written out for speed: what autograd does, without autograd, and nothing allocated.

The equations are those of ``lib.numpy_network``: :math:`g_D = (p - q) / N`, then
:math:`g_{n-1} = (g_n w_n) \odot [a_{n-1} > 0]`, with the slopes :math:`g_n^\top a_{n-1}` of the weights and
:math:`\sum_i g_n` of the biases. Four things make them fast. All results go to buffers that are there before the first
step. All parameters lie in one vector, and all slopes in another, so that the optimizer makes one move and not one for
each tensor. The targets are rows of probabilities, made once. And where precision is "bfloat16", a copy of the vector
in 16 bits serves all matrix products.
"""

from collections.abc import Callable, Iterable
from functools import cache
from math import ceil

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from lib.training import PRECISIONS, device, order
from lib.training.checks import build_optimizer, build_schedule, check_count, check_data


def fit(
    network: nn.Sequential,
    train: tuple[Tensor, Tensor],
    *,
    epochs: int = 10,
    batch_size: int = 64,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
    precision: str = "float32",
) -> None:
    """Train linear layers with ReLU between them by cross-entropy, as ``lib.training.fit`` does, only faster.

    The batches, the arithmetic and so, up to rounding, the weights are those of ``lib.training.fit``. What is missing
    is all that it records: not even the loss is computed, as its slope does not need it.

    Args:
        network: layers ``nn.Linear`` with ``nn.ReLU`` between them, e.g. ``lib.networks.document_network()``. It is
            moved to ``lib.training.device()`` and trained in place; its parameters become parts of one vector.
        train: inputs, shape (N, features), and classes, int64, shape (N,).
        epochs: how often to go through the training data.
        batch_size: samples in a batch; the last batch of an epoch may be smaller.
        optimizer: from the parameters (here one vector) to their optimizer; the default is Adam at 1e-3, fused. An
            optimizer that treats each tensor as a whole, such as LARS, would do something else here.
        schedule: from the optimizer and the number of all steps to what changes its learning rate after each step.
        label_smoothing: the share of the target that is spread evenly over all classes.
        seed: decides the order of the samples.
        precision: "float32", which keeps to the dtype of the network, or "bfloat16" for all matrix products in
            bfloat16; parameters, softmax and optimizer keep the dtype of the network.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument is out of range, the shapes do not fit, or a label is no class.

    Example:
        >>> inputs, labels = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
        >>> network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> fit(network, (inputs, labels), epochs=100, batch_size=8, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
        >>> (network(inputs).argmax(1) == labels).all().item()
        True
    """
    for name, value, least in [("epochs", epochs, 0), ("batch_size", batch_size, 1), ("seed", seed, 0)]:
        check_count(name, value, least)
    gradient = Gradient(network, train, label_smoothing=label_smoothing, precision=precision)
    optimizer = build_optimizer(optimizer, nn.ParameterList([gradient.parameters]))
    length = len(train[0])
    schedule = schedule and build_schedule(schedule, optimizer, epochs * ceil(length / batch_size))
    for epoch in range(epochs):
        for batch in order(length, seed, epoch).to(device()).split(batch_size):
            gradient(batch)
            optimizer.step()
            if schedule:
                schedule.step()


class Gradient:
    """The gradient of the mean cross-entropy of a batch in all parameters of a network, by the four equations.

    Called with the row numbers of a batch, it fills ``parameters.grad``. On a GPU the passes of each size of a batch
    are captured once and then replayed as one CUDA graph: some thirty launches become one.

    Args:
        network: as for ``fit``.
        train: as for ``fit``.
        label_smoothing: as for ``fit``.
        precision: as for ``fit``.

    Attributes:
        parameters: all of the network's in one vector, of which its own are now parts; ``parameters.grad`` is made.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument is out of range, the shapes do not fit, or a label is no class.
    """

    def __init__(self, network, train, *, label_smoothing=0.0, precision="float32"):
        layers = _layers(network)
        _check(layers, train, label_smoothing, precision)
        network.to(device())
        kept = layers[0].weight.dtype
        self.parameters = nn.Parameter(torch.cat([p.detach().flatten() for p in network.parameters()]))
        self.parameters.grad = torch.zeros_like(self.parameters)
        for parameter, part in zip(network.parameters(), _parts(self.parameters.detach(), layers), strict=True):
            parameter.data = part

        dtype = PRECISIONS[precision] or kept
        self._halved = dtype != kept
        self._work, self._grad = self.parameters.detach(), self.parameters.grad
        if self._halved:
            self._work, self._grad = (torch.empty_like(self._work, dtype=dtype) for _ in range(2))
        weights = _parts(self._work, layers)
        slopes = _parts(self._grad, layers)
        self._weights, self._biases = weights[::2], weights[1::2]
        self._weight_slopes, self._bias_slopes = slopes[::2], slopes[1::2]

        inputs, labels = (tensor.to(device()) for tensor in train)
        classes = layers[-1].out_features
        self._inputs = inputs.to(dtype)
        self._targets = torch.full((len(labels), classes), label_smoothing / classes, dtype=kept, device=device())
        self._targets[torch.arange(len(labels)), labels] += 1 - label_smoothing
        self._passes = cache(self._prepare)

    def __call__(self, batch: Tensor) -> None:
        """Fill ``parameters.grad`` with the gradient of the mean loss of the samples with these row numbers."""
        self._passes(len(batch))(batch)

    @torch.no_grad()
    def _prepare(self, rows):
        """Make the buffers for batches of so many rows, and return the function that runs both passes in them."""
        where, dtype = self.parameters.device, self.parameters.dtype
        sizes = [self._inputs.shape[1], *map(len, self._biases)]
        a = [self._inputs.new_empty(rows, size) for size in sizes]  # what goes into each layer; the last are the logits
        g = [torch.empty_like(outputs) for outputs in a[1:]]  # the slope in the sums of each layer
        z, p, q = (torch.empty_like(a[-1], dtype=dtype) for _ in range(3))
        layers = list(zip(self._weights, self._biases, self._weight_slopes, self._bias_slopes, strict=True))
        last = len(layers) - 1

        def passes(batch):
            if self._halved:
                self._work.copy_(self.parameters)
            torch.index_select(self._inputs, 0, batch, out=a[0])
            torch.index_select(self._targets, 0, batch, out=q)
            for n, (weight, bias, _, _) in enumerate(layers):
                torch.addmm(bias, a[n], weight.t(), out=a[n + 1])
                if n < last:
                    a[n + 1].relu_()
            torch.softmax(z.copy_(a[-1]), 1, out=p)
            g[last].copy_(p.sub_(q).mul_(1 / rows))  # prediction minus truth
            for n, (weight, _, weight_slope, bias_slope) in reversed(list(enumerate(layers))):
                torch.mm(g[n].t(), a[n], out=weight_slope)
                torch.sum(g[n], 0, out=bias_slope)
                if n > 0:
                    torch.mm(g[n], weight, out=g[n - 1])
                    g[n - 1].mul_(a[n].sign_())  # [a > 0]; a itself is not needed any more
            if self._halved:
                self.parameters.grad.copy_(self._grad)

        return torch.no_grad()(passes if where.type == "cpu" else _captured(passes, rows, where))


def _captured(passes, rows, where):
    """Return a function that replays the passes as a CUDA graph, which finds its batch at a fixed place."""
    batch = torch.zeros(rows, dtype=torch.int64, device=where)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what libraries set up at their first call must not be captured
        passes(batch)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        passes(batch)

    def replay(rows_of_batch):
        batch.copy_(rows_of_batch)
        graph.replay()

    return replay


def _layers(network):
    """Return the linear layers, or raise TypeError if there is anything else than ReLU between them."""
    wanted = "network must be nn.Sequential: layers nn.Linear with a bias, and nn.ReLU between them"
    if not isinstance(network, nn.Sequential):
        raise TypeError(f"{wanted}; got {type(network).__name__}")
    kinds = [type(part) for part in network]
    if len(kinds) % 2 == 0 or any(kind is not (nn.Linear, nn.ReLU)[place % 2] for place, kind in enumerate(kinds)):
        raise TypeError(f"{wanted}; got {', '.join(kind.__name__ for kind in kinds) or 'none'}")
    if any(layer.bias is None for layer in network[::2]):
        raise TypeError(f"{wanted}; got one without a bias")
    return list(network[::2])


def _check(layers, train, label_smoothing, precision):
    """Raise TypeError or ValueError unless the data fit the network and the options are known."""
    check_data("train", train)
    inputs, labels = train
    features, classes = layers[0].in_features, layers[-1].out_features
    if inputs.ndim != 2 or inputs.shape[1] != features:
        raise ValueError(f"train inputs must have the shape (N, {features}), got {tuple(inputs.shape)}")
    if not inputs.is_floating_point():
        raise TypeError(f"train inputs must be floats, got {inputs.dtype}")
    if labels.dtype != torch.int64:
        raise TypeError(f"train targets must be classes, int64, got {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"train targets must have the shape (N,), got {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"train targets must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")


def _parts(vector, layers):
    """Return the parts of a vector that stand for weight and bias of each layer, in their shapes."""
    shapes = [parameter.shape for layer in layers for parameter in (layer.weight, layer.bias)]
    pieces = vector.split([shape.numel() for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
