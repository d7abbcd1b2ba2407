"""Cross-entropy of a linear layer over a large vocabulary, whose logits would fill the memory."""

import torch
import torch.nn.functional as F

from benchmarks.measure import markdown, peak_memory, ratio, times, training_step
from lib.losses import linear_cross_entropy

ROWS, FEATURES, CLASSES = 4096, 512, 32768
MEMORY_OF_NAIVE, MEMORY_OF_TORCH, TIME_OF_NAIVE, ERROR_IN_BFLOAT16 = 0.12, 0.55, 0.85, 1e-4  # to reach
NAMES = {
    "ours": "`linear_cross_entropy`",
    "naive": "`F.cross_entropy(F.linear(x, w))`",
    "torch": "torch's chunked path",
}


def tensors(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return hidden vectors, a weight matrix and class indices, one in seven of which is ignored."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, FEATURES, generator=generator).to(dtype)
    weight = (torch.randn(CLASSES, FEATURES, generator=generator) / FEATURES**0.5).to(dtype)
    target = torch.randint(CLASSES, (ROWS,), generator=generator)
    target[::7] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), target


def naive(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute all logits."""
    return F.cross_entropy(F.linear(hidden, weight), target)


def chunked(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Let torch do it chunk by chunk."""
    return F.linear_cross_entropy(hidden, weight, target, options=torch.nn.LinearCrossEntropyOptions())


LOSSES = {"ours": linear_cross_entropy, "naive": naive, "torch": chunked}
CASES = {name: lambda loss=loss: training_step(loss, *tensors()) for name, loss in LOSSES.items()}


def error_in_bfloat16(loss) -> tuple[float, float]:
    """Return how far the loss in bfloat16 is from that of the same numbers in float64, and its weight gradient.

    The error of the gradient is in units of what rounding the exact one to bfloat16 changes: 1 is the best there is.
    """
    hidden, weight, target = tensors(torch.bfloat16)
    value = loss(hidden, weight, target)
    value.backward()
    exact_hidden, exact_weight = (x.detach().double().requires_grad_() for x in (hidden, weight))
    exact = linear_cross_entropy(exact_hidden, exact_weight, target)
    exact.backward()
    rounding = exact_weight.grad.to(torch.bfloat16) - exact_weight.grad
    gradient = (weight.grad - exact_weight.grad).norm() / rounding.norm()
    return abs(value.item() - exact.item()) / exact.item(), gradient.item()


def report() -> str:
    """Return the table as Markdown."""
    turns = times({name: case() for name, case in CASES.items()}, rounds=5)
    memory = {name: peak_memory("benchmarks.large_vocabulary", name) for name in CASES}
    rows = []
    for name, loss in LOSSES.items():
        value, gradient = error_in_bfloat16(loss)
        by_peers = memory[name] / memory["naive"], memory[name] / memory["torch"]
        rows.append((NAMES[name], memory[name], *by_peers, ratio(turns[name], turns["naive"]), value, gradient))
    targets = (MEMORY_OF_NAIVE, MEMORY_OF_TORCH, TIME_OF_NAIVE, ERROR_IN_BFLOAT16, 1.01)
    reached = (ours <= target for ours, target in zip(rows[0][2:], targets, strict=True))
    rows += [("to reach", "", *targets), ("reached", "", *reached)]
    head = (
        "computed by",
        "peak memory, MiB",
        "by naive",
        "by torch's chunks",
        "time by naive",
        "error of the loss in bfloat16",
        "of its weight gradient, in roundings",
    )
    return markdown(head, rows)
