"""Every loss that torch has, one million elements, forward and backward: ours, written out, beside torch's own."""

import statistics
import warnings

import numpy as np
import torch

from benchmarks.measure import markdown, ratio, times, training_step
from lib import catalog

ELEMENTS, CLASSES = 1_000_000, 100
EAGER_MEAN, EAGER_EACH, COMPILED_MEAN = 1.4, 3.0, 1.0  # to reach


def arguments(entry: catalog.Entry) -> tuple[list[torch.Tensor], dict]:
    """Return float32 arguments with about a million elements in the input; class scores have a hundred classes."""
    generator = np.random.default_rng(0)
    drawn, options = entry.sample(generator, 1000, 1.0)
    if entry.task == "classification" and drawn[0].ndim == 2:
        rows = ELEMENTS // CLASSES
        scores = torch.randn(rows, CLASSES)
        return [entry.link(scores).requires_grad_(), torch.randint(CLASSES, (rows,))], options
    drawn, options = entry.sample(generator, ELEMENTS * 1000 // drawn[0].size, 1.0)
    tensors = [torch.from_numpy(np.asarray(array)) for array in drawn]
    tensors = [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]
    for position in entry.differentiable:
        tensors[position].requires_grad_()
    return tensors, options


def measure(entry: catalog.Entry, *, compiled: bool) -> float:
    """Return our time by that of torch's eager loss."""
    tensors, options = arguments(entry)
    ours = entry.function
    if compiled:
        torch.compiler.reset()
        ours = torch.compile(ours)
    turns = times(
        {
            "ours": training_step(ours, *tensors, **options),
            "torch": training_step(entry.torch_function, *tensors, **options),
        }
    )
    return ratio(turns["ours"], turns["torch"])


def report() -> str:
    """Return the table as Markdown."""
    warnings.filterwarnings("ignore", "reduction: 'mean' divides", UserWarning)  # torch's, of its own kl_div
    entries = [entry for entry in catalog.ENTRIES if entry.torch]
    rows, usual = [], []
    for entry in entries:
        eager, compiled = measure(entry, compiled=False), measure(entry, compiled=True)
        rows.append((f"`{entry.name}`", eager, compiled))
        if entry.name != "ctc_loss":
            usual.append((eager, compiled))
    eager, compiled = zip(*usual, strict=True)
    rows.append(("geometric mean (without CTC)", statistics.geometric_mean(eager), statistics.geometric_mean(compiled)))
    rows.append(("largest (without CTC)", max(eager), max(compiled)))
    rows.append(("to reach", f"mean {EAGER_MEAN}, largest {EAGER_EACH}", f"mean {COMPILED_MEAN}"))
    mean, largest = statistics.geometric_mean(eager) <= EAGER_MEAN, max(eager) <= EAGER_EACH
    rows.append(("reached", mean and largest, statistics.geometric_mean(compiled) <= COMPILED_MEAN))
    return markdown(("loss", "ours by torch's eager one", "ours compiled, by torch's eager one"), rows)
