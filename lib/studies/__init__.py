"""What was measured once, at length, on real data, for the chapters to show: ``read("compare_losses")``.

A study is a module of this package with a function ``run(workers)`` that returns its measurements. Its record, one JSON
file beside it, says when and on what they were made. ``python -m lib.studies NAME`` makes them again.
"""

import json
import sys
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import t as student

RECORDS = Path(__file__).parent / "records"


def read(name: str) -> dict:
    """Return the record of a study.

    Args:
        name: of its module, e.g. ``"compare_losses"``.

    Returns:
        ``date``, ``machine`` and ``seconds`` (of the processor, all processes together), and what the study's ``run``
        returned.

    Raises:
        ValueError: if there is no such record; the message names those that there are.
    """
    path = RECORDS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(record.stem for record in RECORDS.glob("*.json"))) or "none"
        raise ValueError(f"there is no record of a study called {name!r}; there are: {known}")
    return json.loads(path.read_text())


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the mean of values and half the width of its confidence interval, by Student's t.

    Half the width is t s / sqrt(n), for n values of standard deviation s (n - 1 in its denominator) and the quantile t
    of Student's distribution with n - 1 degrees of freedom that leaves (1 - level) / 2 above it.

    Args:
        values: from independent runs, or the differences of paired runs, shape (n,).
        level: the share of such intervals that hold the true mean, if the values are normally distributed.

    Raises:
        ValueError: if there are fewer than two values, or ``level`` is not between 0 and 1.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval wants two values or more, got shape {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    t = student.ppf((1 + level) / 2, len(values) - 1)
    return float(values.mean()), float(t * values.std(ddof=1) / sqrt(len(values)))


def describe_machine() -> str:
    """Return what the figures were measured on."""
    if torch.cuda.is_available():
        hardware = torch.cuda.get_device_name()
    else:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        hardware = f"{models[0].split(':')[1].strip()}, {len(models)} cores"
    return f"{hardware}; Python {sys.version.split()[0]}, torch {torch.__version__}"
