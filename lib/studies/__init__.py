"""What was measured once, at length, on real data, for the chapters to show: ``read("compare_losses")``.

A study is a module of this package with a function ``run(workers)`` that returns its measurements. Its record, one JSON
file beside it, says when and on what they were made. ``python -m lib.studies NAME`` makes them again.
"""

import json
from pathlib import Path

RECORDS = Path(__file__).parent / "records"


def read(name: str) -> dict:
    """Return the record of a study.

    Args:
        name: of its module, e.g. ``"compare_losses"``.

    Returns:
        ``date``, ``machine`` and ``seconds`` (all its processes together), and what the study's ``run`` returned.

    Raises:
        ValueError: if there is no such record; the message names those that there are.
    """
    path = RECORDS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(record.stem for record in RECORDS.glob("*.json"))) or "none"
        raise ValueError(f"there is no record of a study called {name!r}; there are: {known}")
    return json.loads(path.read_text())
