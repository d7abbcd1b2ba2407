"""Measure the losses beside their peers and write the tables: ``python -m benchmarks [--output FILE]``."""

import argparse
import datetime
from pathlib import Path

import torch

from benchmarks import contrastive, large_vocabulary, peers, torch_losses
from lib.studies import describe_machine

SECTIONS = {
    "A linear layer over a large vocabulary": large_vocabulary,
    "NT-Xent": contrastive,
    "Every loss that torch has": torch_losses,
    "Beside other libraries": peers,
}


def main() -> None:
    """Print each table as soon as it is measured; at the end, write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="file for the tables, in Markdown")
    parser.add_argument("--only", choices=[module.__name__.rpartition(".")[2] for module in SECTIONS.values()])
    options = parser.parse_args()
    torch.set_num_threads(1)  # the peers' too; two threads on a busy machine measure who else is there
    parts = [f"Measured on {datetime.date.today()}: {describe_machine()}; one thread."]
    print(parts[0], flush=True)
    for title, module in SECTIONS.items():
        if options.only and not module.__name__.endswith(options.only):
            continue
        summary = module.__doc__.strip()
        parts.append(f"## {title}\n\n{summary}\n\n{module.report()}")
        print(f"\n{parts[-1]}", flush=True)
    if options.output:
        options.output.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
