"""Ways to train the document's network for an epoch, from the document's own to the fastest, and what a machine can do.

All ways see the same images, take the same five moves and have Adam as their optimizer. They differ in what else they
do. ``measure`` lets them take turns, so that a busy moment of the machine hits them all.
"""

from collections.abc import Callable, Mapping
from itertools import islice, pairwise
from math import ceil
from time import perf_counter, process_time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from lib.data import ImageSet
from lib.data.per_sample import PerSampleImages
from lib.handwritten import Gradient
from lib.networks import document_network
from lib.training import device, order
from lib.training.checks import check_count

EPOCH = 60_000
SIZES = (784, 128, 64, 10)


class Way(NamedTuple):
    """A way to train: a function that trains on some samples, and how many these are."""

    turn: Callable[[], None]
    samples: int


# What the arithmetic asks for, and what the machine can do


def operations(sizes: tuple[int, ...] = SIZES) -> int:
    """Return the additions and multiplications of the matrix products for one image, forward and backward.

    A weight is used once forward, once for its own slope and, but for the first layer, once to carry the slope back;
    each use is a multiplication and an addition.

    Example:
        >>> print(f"{60_000 * operations() / 1e9:.1f} billion in an epoch")
        27.3 billion in an epoch
    """
    weights = [inputs * outputs for inputs, outputs in pairwise(sizes)]
    return 2 * (3 * sum(weights) - weights[0])


def traffic(batch_size: int, *, bytes_per_pixel: int = 4, sizes: tuple[int, ...] = SIZES) -> tuple[int, int]:
    """Return the bytes that an epoch must move: of images, and of parameters, slopes and Adam's two running means.

    Each pixel is read and written once, to put together a batch. Of the four numbers for each parameter, Adam reads
    all at each step and writes all but the slope.

    Args:
        batch_size: samples in a batch.
        bytes_per_pixel: 4 in float32, 2 in bfloat16.
        sizes: of the layers.

    Raises:
        TypeError: if a count is no integer.
        ValueError: if one is not positive.

    Example:
        >>> [f"{number / 1e9:.2f} GB" for number in traffic(64)]
        ['0.38 GB', '2.87 GB']
    """
    _positive(batch_size=batch_size, bytes_per_pixel=bytes_per_pixel)
    parameters = sum(inputs * outputs + outputs for inputs, outputs in pairwise(sizes))
    return 2 * EPOCH * sizes[0] * bytes_per_pixel, 7 * 4 * parameters * ceil(EPOCH / batch_size)


def matrix_rate(dtype: torch.dtype, rows: int = 1024, inner: int = 1024, columns: int = 1024) -> float:
    """Return the operations a second of the product of two matrices, (rows, inner) and (inner, columns), at best."""
    _positive(rows=rows, inner=inner, columns=columns)
    a, b = torch.randn(rows, inner, device=device()).to(dtype), torch.randn(inner, columns, device=device()).to(dtype)
    product = torch.empty(rows, columns, dtype=dtype, device=device())
    return 2 * rows * inner * columns / _least(lambda: torch.mm(a, b, out=product))


def copy_rate(numbers: int) -> float:
    """Return the bytes a second, read and written, of copying so many float32 numbers, at best.

    A few hundred thousand stay in the caches, a hundred million do not.
    """
    _positive(numbers=numbers)
    source = torch.ones(numbers, device=device())
    copy = torch.empty_like(source)
    return 8 * numbers / _least(lambda: copy.copy_(source))


def _least(function, turns: int = 60, at_least: float = 0.002) -> float:
    """Return the seconds that a call takes at best, in turns so short that some are not interrupted.

    With one thread on a CPU these are seconds in which it computes, so that what others do there does not count. The
    seconds of further threads are booked too late for turns so short; with them it is the clock that counts.
    """
    function()
    repeats = max(1, round(at_least / _seconds(function, 1)[0]))
    found = [_seconds(function, repeats) for _ in range(turns)]
    if device().type == "cpu" and torch.get_num_threads() == 1:
        return min(computed for _, computed in found) / repeats
    return min(passed for passed, _ in found) / repeats


def _seconds(function, repeats) -> tuple[float, float]:
    """Return the seconds that have passed, and those that this process has computed."""
    _finish()
    began, computed = perf_counter(), process_time()
    for _ in range(repeats):
        function()
    _finish()
    return perf_counter() - began, process_time() - computed


def _finish():
    """Wait for a GPU, which computes on after the call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# The ways


def as_the_document(images: ImageSet, *, batch_size: int = 64, workers: int = 0, batches: int = 100) -> Way:
    """One image at a time goes from PIL through two transforms into a ``DataLoader``, whose start counts, too."""
    _positive(batch_size=batch_size, batches=batches)
    data = PerSampleImages(images.images, images.labels)
    loader = DataLoader(data, batch_size, shuffle=True, num_workers=workers)
    return _by_loader(loader, batch_size, batches)


def tensors_in_a_loader(images: ImageSet, *, batch_size: int = 64, batches: int = 200) -> Way:
    """Images are converted once; a ``DataLoader`` fetches them one by one."""
    _positive(batch_size=batch_size, batches=batches)
    loader = DataLoader(TensorDataset(*resident(images)), batch_size, shuffle=True)
    return _by_loader(loader, batch_size, batches)


def resident_tensors(
    images: ImageSet, *, batch_size: int = 64, fused: bool = True, compiled: bool = False, batches: int = 200
) -> Way:
    """Images are converted once, lie on the device, and are gathered a batch at a time; autograd does the rest."""
    _positive(batch_size=batch_size, batches=batches)
    inputs, labels = resident(images)
    network, optimizer = _network(fused)

    def loss_of(input, target):
        return F.cross_entropy(network(input), target)

    if compiled:
        loss_of = torch.compile(loss_of, dynamic=False)  # else a second batch size gets code for any size
    rows = _batches(len(labels), batch_size, batches)

    def turn():
        for batch in rows:
            loss = loss_of(inputs.index_select(0, batch), labels.index_select(0, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return Way(turn, sum(map(len, rows)))


def handwritten(images: ImageSet, *, batch_size: int = 64, precision: str = "float32", batches: int = 200) -> Way:
    """The passes of ``lib.handwritten``, Adam on one vector."""
    _positive(batch_size=batch_size, batches=batches)
    network = document_network()
    gradient = Gradient(network, resident(images), precision=precision)
    optimizer = torch.optim.Adam([gradient.parameters], fused=True)
    rows = _batches(len(images.labels), batch_size, batches)

    def turn():
        for batch in rows:
            gradient(batch)
            optimizer.step()

    return Way(turn, sum(map(len, rows)))


def resident(images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images as the network takes them, float32 from -1 to 1, shape (N, 784), and the labels."""
    return images.images.to(device()).flatten(1).float().div_(127.5).sub_(1), images.labels.to(device())


def _positive(**counts):
    for name, count in counts.items():
        check_count(name, count, 1)


def _network(fused):
    network = document_network().to(device())
    return network, torch.optim.Adam(network.parameters(), fused=fused)


def _batches(length, batch_size, batches):
    """Return the row numbers of at most so many batches."""
    return order(length, 0, 0).to(device()).split(batch_size)[:batches]


def _by_loader(loader, batch_size, batches):
    network, optimizer = _network(fused=False)
    batches = min(batches, len(loader))

    def turn():
        for input, target in islice(loader, batches):
            loss = F.cross_entropy(network(input.flatten(1).to(device())), target.to(device()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return Way(turn, min(batches * batch_size, len(loader.dataset)))


def measure(ways: Mapping[str, Way], rounds: int = 3) -> dict[str, dict[str, list[float]]]:
    """Return the seconds that an epoch of 60 000 images takes in each way, a number for each round.

    Args:
        ways: take turns; what a turn takes is scaled up to an epoch. Before the first round each has a turn that does
            not count.
        rounds: how many turns each has.

    Returns:
        For each way, ``"clock"``, the seconds by the clock, and ``"work"``, those that this process has computed: on a
        busy machine the former contain what others do, too.

    Raises:
        ValueError: if there are no rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    for way in ways.values():
        way.turn()
    found = {name: {"clock": [], "work": []} for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            for clock, seconds in zip(("clock", "work"), _seconds(way.turn, 1), strict=True):
                found[name][clock].append(seconds * EPOCH / way.samples)
    return found
