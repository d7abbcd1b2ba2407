"""What was measured once, at length, on real data, for the chapters to show: ``read("compare_losses")``.

A study is a module of this package with a function ``run(workers)`` that returns its measurements. Its record, one JSON
file beside it, says when and on what they were made. ``python -m lib.studies NAME`` makes them again.
"""

import json
import sys
from pathlib import Path

import torch

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


def describe_machine() -> str:
    """Return what the figures were measured on."""
    if torch.cuda.is_available():
        hardware = torch.cuda.get_device_name()
    else:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        hardware = f"{models[0].split(':')[1].strip()}, {len(models)} cores"
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    return f"{hardware}; {threads}; Python {sys.version.split()[0]}, torch {torch.__version__}"
