"""Time and memory of a step, forward and backward, beside a peer: the machine's speed cancels in the ratio."""

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Step = Callable[[], object]
Case = Callable[[], Step]
"""Builds the tensors and returns the step to be measured."""


def training_step(loss: Callable[..., torch.Tensor], *arguments: torch.Tensor, **options) -> Step:
    """Return a step that computes the loss and its gradient in every argument that requires one."""
    wanted = [argument for argument in arguments if argument.requires_grad]

    def step():
        for tensor in wanted:
            tensor.grad = None
        loss(*arguments, **options).backward()

    return step


def times(steps: dict[str, Step], *, rounds: int = 15, at_least: float = 0.02) -> dict[str, list[float]]:
    """Return the seconds of each step in each round. Steps take turns, so that a busy moment hits them all.

    Args:
        steps: to be measured, by name.
        rounds: how often each has its turn.
        at_least: the seconds that a turn lasts; a short step is repeated.
    """
    # As in any process that has freed a large tensor, the allocator then keeps the pages of those up to its size.
    torch.ones(7_000_000)
    repeats = {}
    for name, step in steps.items():
        step()  # warm up
        repeats[name] = max(1, round(at_least / _seconds(step, 1)))
    turns = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            turns[name].append(_seconds(step, repeats[name]))
    return turns


def _seconds(step: Step, repeats: int) -> float:
    _finish()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    _finish()
    return (time.perf_counter() - start) / repeats


def _finish() -> None:
    """Wait for an accelerator, which computes on after the call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(ours: list[float], peers: list[float]) -> float:
    """Return the median over the rounds of our time by the peer's."""
    return statistics.median(mine / peer for mine, peer in zip(ours, peers, strict=True))


def peak_memory(module: str, case: str, *arguments: str) -> float:
    """Return the MiB that a step needs beyond what is there before it, measured in a process of its own.

    Args:
        module: that has a dictionary ``CASES`` of cases by name.
        case: the name.
        arguments: strings for the case.
    """
    command = [sys.executable, "-m", "benchmarks.measure", module, case, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    return json.loads(result.stdout)


def _measure_memory(case: Case, *arguments: str) -> float:
    case(*arguments)()  # what a library sets up once is not what a step needs
    gc.collect()
    step = case(*arguments)
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free but not given back would hide what the step takes
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
    step()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    """Return a field of this process's memory statistics in KiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def markdown(head: tuple[str, ...], rows: list[tuple]) -> str:
    """Return a Markdown table; numbers are written with three digits, truths as yes and no."""
    cells = [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells))


def _text(cell: object) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)


if __name__ == "__main__":
    import importlib

    module, case, *arguments = sys.argv[1:]
    torch.set_num_threads(1)
    print(json.dumps(_measure_memory(importlib.import_module(module).CASES[case], *arguments)))
