"""NT-Xent, whose similarities grow with the square of the batch."""

import torch
import torch.nn.functional as F

from benchmarks.measure import markdown, peak_memory, ratio, times, training_step
from lib.losses import nt_xent_loss

PAIRS, FEATURES, TEMPERATURE = 2048, 128, 0.5
MANY_PAIRS, CHUNK, MEMORY = 16384, 32, 200  # to reach: so many MiB for many pairs


def views(pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two random views of so many samples."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(pairs, FEATURES, generator=generator).requires_grad_() for _ in range(2))


def naive(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Normalise, multiply, take the cross-entropy."""
    embeddings = F.normalize(torch.cat([first, second]))
    similarity = embeddings @ embeddings.T / TEMPERATURE
    similarity.fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(embeddings)).roll(len(first)))


def ours(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """As the library has it."""
    return nt_xent_loss(first, second, temperature=TEMPERATURE)


def by_chunks(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The same, with the similarities of a few anchors at a time."""
    return nt_xent_loss(first, second, temperature=TEMPERATURE, chunk_size=CHUNK)


CASES = {
    "naive": lambda: training_step(naive, *views(PAIRS)),
    "ours": lambda: training_step(ours, *views(PAIRS)),
    "by chunks": lambda: training_step(by_chunks, *views(PAIRS)),
    "by chunks, half": lambda: training_step(by_chunks, *views(MANY_PAIRS // 2)),
    "by chunks, many": lambda: training_step(by_chunks, *views(MANY_PAIRS)),
}


def report() -> str:
    """Return the table as Markdown."""
    names = ("naive", "ours", "by chunks")
    turns = times({name: CASES[name]() for name in names})
    memory = {name: peak_memory("benchmarks.contrastive", name) for name in CASES}
    pairs = {"by chunks, half": MANY_PAIRS // 2, "by chunks, many": MANY_PAIRS}
    rows = [
        (
            name.partition(",")[0],
            pairs.get(name, PAIRS),
            memory[name],
            ratio(turns[name], turns["naive"]) if name in turns else "",
        )
        for name in CASES
    ]
    level = memory["ours"] <= memory["naive"], ratio(turns["ours"], turns["naive"]) <= 1
    rows += [("to reach, ours", PAIRS, "that of naive", 1.0), ("reached", "", *level)]
    rows += [("to reach, by chunks", MANY_PAIRS, MEMORY, ""), ("reached", "", memory["by chunks, many"] <= MEMORY, "")]
    return markdown(("computed", "pairs", "peak memory, MiB", "time by naive"), rows)
