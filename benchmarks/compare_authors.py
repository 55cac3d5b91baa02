"""Compare a variant with its authors' code: same weights in, same numbers out.

    python benchmarks/compare_authors.py u2net CHECKOUT

CHECKOUT is a folder with the repository that the file of the variant in
`benchmarks/authors/` names. Both networks are built, the authors' random weights are
copied into ours, and both see one random image. Printed is, for each configuration, the
largest difference divided by the range of the authors' output. Exit code 1 above 1e-4.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent / "authors"
LIMIT = 1e-4


def main() -> None:
    """Print the differences of the variant that the command line names."""
    names = sorted(file.stem for file in HERE.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=names)
    parser.add_argument("checkout", type=Path)
    given = parser.parse_args()
    # The authors' code is of PyTorch: one framework in the process is enough.
    os.environ.setdefault("KERAS_BACKEND", "torch")
    module = importlib.import_module(f"authors.{given.name}")
    print("| variant | configuration | difference |\n| --- | --- | --- |")
    worst = 0.0
    for configuration, difference in module.compare(given.checkout.resolve()):
        print(f"| {given.name} | {configuration} | {difference:.1e} |", flush=True)
        worst = max(worst, difference)
    sys.exit(not worst < LIMIT)


if __name__ == "__main__":
    main()
