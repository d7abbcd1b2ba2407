"""Break the losses in a random sample of all the ways of ``make mutants``: minutes where the whole takes many hours.

Prints the share of the sample that some test notices, with its exact 95 % interval, and the names of the rest.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code
from scipy.stats import binomtest

UNNOTICED = ("survived", "no tests")


def main() -> None:
    """Draw the sample, try it, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    options = parser.parse_args()
    mutate("lib.losses._common.*__mutmut_1")  # as a side effect it writes all mutants, and which tests reach them
    everything = statuses()
    sample = sorted(random.Random(options.seed).sample(sorted(everything), options.size))
    mutate(*sample)
    found = statuses()
    counts = Counter(found[name] for name in sample)
    noticed = options.size - sum(counts[status] for status in UNNOTICED)
    interval = binomtest(noticed, options.size).proportion_ci(method="exact")
    for name in sample:
        if found[name] in UNNOTICED:
            print(f"{found[name]}: {name}")
    print(f"{noticed} of {options.size} mutants noticed, drawn from {len(everything)}: {dict(counts)}")
    print(f"{noticed / options.size:.1%}, 95 % interval {interval.low:.1%} to {interval.high:.1%}")


def mutate(*names: str) -> None:
    """Try the mutants of these names."""
    command = [sys.executable, "-m", "mutmut", "run", *names]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"mutmut failed: {done.stderr[-2000:]}")


def statuses() -> dict[str, str]:
    """Return what is known of each mutant: "killed", "survived", "not checked", ..."""
    found = {}
    for path in Path("mutants").glob("lib/**/*.meta"):
        results = json.loads(path.read_text())["exit_code_by_key"]
        found |= {name: status_by_exit_code[code] for name, code in results.items()}
    return found


if __name__ == "__main__":
    main()
