"""Run a study again and write its record."""

import argparse
import datetime
import importlib
import json
import os
import pkgutil
import re

from lib import studies


def main(arguments: list[str] | None = None) -> None:
    """Run one study and write its record."""
    parser = argparse.ArgumentParser("python -m lib.studies", description=__doc__)
    names = [module.name for module in pkgutil.iter_modules(studies.__path__) if not module.name.startswith("_")]
    parser.add_argument("name", choices=names)
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side (default: 1)")
    options = parser.parse_args(arguments)
    found = importlib.import_module(f"lib.studies.{options.name}").run(options.workers)
    record = {
        "date": str(datetime.date.today()),
        "machine": studies.describe_machine(),
        "seconds": round(sum(os.times()[:4])),  # user and system time, of this process and of its children
        **found,
    }
    path = studies.RECORDS / f"{options.name}.json"
    path.write_text(as_text(record))
    print(f"record: {path}")


def as_text(record: dict) -> str:
    """Return JSON in which a list of plain values is one line."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[\n([^][{}]*)\n *\]", _on_one_line, text) + "\n"


def _on_one_line(found: re.Match) -> str:
    return f"[{' '.join(line.strip() for line in found[1].splitlines())}]"


if __name__ == "__main__":
    main()
