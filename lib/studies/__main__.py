"""Run a study again and write its record."""

import argparse
import datetime
import importlib
import json
import pkgutil
from time import perf_counter

from lib import studies


def main(arguments: list[str] | None = None) -> None:
    """Run one study, with one thread in each of its processes, and write its record."""
    parser = argparse.ArgumentParser("python -m lib.studies", description=__doc__)
    names = [module.name for module in pkgutil.iter_modules(studies.__path__) if not module.name.startswith("_")]
    parser.add_argument("name", choices=names)
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side (default: 1)")
    options = parser.parse_args(arguments)
    began = perf_counter()
    found = importlib.import_module(f"lib.studies.{options.name}").run(options.workers)
    record = {
        "date": str(datetime.date.today()),
        "machine": studies.describe_machine(),
        "seconds": round(perf_counter() - began),
        **found,
    }
    path = studies.RECORDS / f"{options.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"record: {path}")


if __name__ == "__main__":
    main()
