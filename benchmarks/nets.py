"""Train networks the same way on the same faces and measure them: the tutorials' nets beside our own.

    python benchmarks/nets.py FER2013 recipes/minixception.toml … --out runs/nets [--set epochs=8]

Each recipe becomes a run under ``--out``; a finished one is not trained again and a broken one is resumed. The
checkpoint is the last one; PublicTest decides nothing. ``results.json`` and a table in Markdown are written after
every net.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from mien.evaluate.run import evaluate
from mien.models.expression import Expression
from mien.train.export import export
from mien.train.fit import fit
from mien.train.recipe import read_recipe

ROUNDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/nets"))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    held = asked.out / "results.json"
    if held.exists():
        rows = json.loads(held.read_text())
    for path in asked.recipes:
        recipe = read_recipe(path, settings=asked.settings)
        run = asked.out / recipe.name
        model = run / "model.onnx"
        if not model.exists():
            fit(recipe, asked.data, run, resume=True, limit=asked.limit, progress=False)
            export(run, model, data=None, name=recipe.name, half=False)
        rows[recipe.name] = measured(run, model, asked.data)
        asked.out.mkdir(parents=True, exist_ok=True)
        held.write_text(json.dumps(rows, indent=1))
        (asked.out / "table.md").write_text(table(rows))
        print(table(rows), flush=True)


def measured(run: Path, model: Path, data: Path) -> dict[str, object]:
    report = evaluate(model, data).as_dict()
    part = report["deduplicated"]
    scores = part.get("fer2013") or part.get("labels")
    expression = Expression(model, threads=1)
    history = (run / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("seconds")
    seconds = sum(float(line.split(",")[column]) for line in history[1:])
    return {
        "parameters": expression.card.parameters,
        "epochs": len(history) - 1,
        "accuracy": scores["accuracy"],
        "macro_f1": scores["macro_f1"],
        "ms_1": pace(expression, 1),
        "ms_32": pace(expression, 32),
        "minutes": seconds / 60,
        "machine": f"{cpu()}, {platform.python_version()}",
    }


def pace(expression: Expression, batch: int) -> float:
    """Return the median milliseconds a face."""
    crops = np.random.default_rng(0).integers(0, 255, (batch, 48, 48), np.uint8)
    times = []
    for _ in range(ROUNDS + 3):
        began = time.perf_counter()
        expression.read(crops)
        times.append((time.perf_counter() - began) * 1000 / batch)
    return statistics.median(times[3:])


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(rows: dict[str, dict[str, object]]) -> str:
    names = ("net", "parameters", "accuracy [95 %]", "macro-F1", "ms a face, batch 1 / 32", "epochs", "minutes")
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
    return head + "".join(line(name, row) for name, row in rows.items())


def line(name: str, row: dict[str, object]) -> str:
    def shown(estimate: dict[str, float]) -> str:
        return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"

    return (
        f"| {name} | {row['parameters']:,} | {shown(row['accuracy'])} | {shown(row['macro_f1'])} | "
        f"{row['ms_1']:.2f} / {row['ms_32']:.2f} | {row['epochs']} | {row['minutes']:.0f} |\n"
    )


if __name__ == "__main__":
    main()
