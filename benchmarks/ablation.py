"""Train one recipe with one thing changed at a time; score the sequence never seen.

    python benchmarks/ablation.py --manual-dir DATA
    python benchmarks/ablation.py --manual-dir DATA --only target resolution --seeds 2

HeLa, taught on one sequence (a few frames of which are for validation) and measured on
the other, without turned copies. The recipe is that of `resunet-hela` but for the
number of steps. What a training reached is kept in --keep, so that what was interrupted
goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path

import auto

RECIPE = Path(__file__).parents[1] / "zoo" / "resunet-hela" / "recipe.toml"
# Groups of rows: what differs, and the fields of the recipe that say so.
ROWS: dict[str, dict[str, str]] = {
    "base": {"nothing": ""},
    "target": {
        "target `border`, with the weight map of the U-Net paper": "target=border",
        "target `semantic`: foreground, connected parts": "target=semantic",
    },
    "geometry": {
        "no elastic deformation": "augmentation.elastic=0",
        "no magnification": "augmentation.scale=0",
        "quarter turns in place of any angle": (
            "augmentation.rotation=0 augmentation.quarter_turns=true"
        ),
        "flips and shifts alone": (
            "augmentation.elastic=0 augmentation.scale=0 augmentation.rotation=0"
        ),
    },
    "grey": {
        "no uneven light": "augmentation.light=0",
        "no blur, no noise": "augmentation.blur=0 augmentation.noise=0",
        "no change of grey values at all": (
            "augmentation.light=0 augmentation.blur=0 augmentation.noise=0"
            " augmentation.gamma=0 augmentation.contrast=0 augmentation.brightness=0"
        ),
    },
    "learning": {
        "last weights, not averaged ones": "optimizer.average=0",
        "no dropout": "model_arguments.dropout=0",
        "AdamW, 0.002": (
            "optimizer.name=adamw optimizer.learning_rate=0.002 optimizer.momentum=0.9"
        ),
    },
    "resolution": {
        "a quarter of the resolution": "scale=0.25 patch=128 batch=16",
        "all of the resolution": "scale=1 patch=512 batch=1",
    },
}


def reached(given: argparse.Namespace, fields: str, seed: int) -> list[float]:
    """Return SEG of a training, in validation and of the test."""
    known: dict[str, list[float]] = {}
    if given.keep.exists():
        known = json.loads(given.keep.read_text())
    name = f"{given.config} steps={given.steps} seed={seed} {fields}".strip()
    if name not in known:
        data = ["--dataset", "hela", "--config", given.config]
        if given.manual_dir:
            data += ["--manual-dir", given.manual_dir]
        plan = ["--recipe", RECIPE, "--validation", 0.12, "--seed", seed, "--tta", 1]
        plan += ["--steps", given.steps, "--validate-every", given.steps]
        for field in fields.split():
            plan += ["--set", field]
        with tempfile.TemporaryDirectory() as scratch:
            run = Path(scratch) / "run"
            auto.cli("train", "resunet", *data, *plan, "--output", run)
            with (run / "history.csv").open() as file:
                known[name] = [float(list(csv.DictReader(file))[-1]["SEG"])]
            known[name].append(auto.score(run, *data, metric="SEG"))
        given.keep.parent.mkdir(parents=True, exist_ok=True)
        given.keep.write_text(json.dumps(known, indent=1))
    return known[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--manual-dir")
    parser.add_argument("--config", choices=("standard", "swapped"), default="standard")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=Path("runs/ablation.json"))
    given = parser.parse_args()
    print("| what differs | validation | test |\n|---|---|---|", flush=True)
    for group in given.only:
        for title, fields in ROWS[group].items():
            found = [reached(given, fields, seed) for seed in range(given.seeds)]
            cells = [auto.spread(values) for values in zip(*found, strict=True)]
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
