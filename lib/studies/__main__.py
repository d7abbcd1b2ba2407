"""Run a study again and write its record."""

import argparse
import datetime
import importlib
import json
import platform
from time import perf_counter

import torch

from lib import studies

NAMES = ("compare_losses", "noise_and_imbalance", "speed")


def main(arguments: list[str] | None = None) -> None:
    """Run one study, with one thread in each of its processes, and write its record."""
    parser = argparse.ArgumentParser("python -m lib.studies", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side (default: 1)")
    options = parser.parse_args(arguments)
    began = perf_counter()
    found = importlib.import_module(f"lib.studies.{options.name}").run(options.workers)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    record = {
        "date": str(datetime.date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {versions}",
        "seconds": round(perf_counter() - began),
        **found,
    }
    path = studies.RECORDS / f"{options.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"record: {path}")


if __name__ == "__main__":
    main()
