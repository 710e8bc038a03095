"""Kill -9 at random moments: whether the index that is gone on with is, byte for byte, the undisturbed one.

    python benchmarks/kill.py --times 20 [--film CLIP]

A process with ``mien film index`` is killed after a random share of the time that an undisturbed run takes, at most
three times on one index, then left to finish; every file is compared.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from moving import moving_film
from scene import about


def command(film: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "mien", "film", "index", str(film), "--out", str(out), "--quiet"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(film: Path, out: Path) -> float:
    start = perf_counter()
    subprocess.run(command(film, out), check=True)
    return perf_counter() - start


def killed(film: Path, out: Path, after: float) -> bool:
    """Start a run and kill it after so many seconds; say whether it was still at work."""
    run = subprocess.Popen(command(film, out))
    start = perf_counter()
    while perf_counter() - start < after and run.poll() is None:
        sleep(0.005)
    alive = run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.wait()
    return alive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    about()
    rng = random.Random(args.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as folder:
        film = args.film or Path(folder) / "moving.mp4"
        if args.film is None:
            moving_film(film, width=640, height=360, seconds=60, faces=2, seed=1)
        seconds = whole(film, Path(folder) / "whole.mien")
        expected = contents(Path(folder) / "whole.mien")
        print(f"undisturbed: {seconds:.1f} s, {sum(map(len, expected.values()))} bytes in {len(expected)} files")
        equal = hit = 0
        for number in range(args.times):
            out = Path(folder) / f"{number}.mien"
            moments = [rng.uniform(0, 1) * seconds for _ in range(rng.choice((1, 1, 1, 2, 3)))]
            alive = [killed(film, out, m) for m in moments]
            parts = len(list((out / "parts").glob("*.state.json"))) if (out / "parts").is_dir() else 0
            whole(film, out)
            same = contents(out) == expected
            equal, hit = equal + same, hit + sum(alive)
            at = ", ".join(f"{m:.2f} s{'' if a else ' (over already)'}" for m, a in zip(moments, alive, strict=True))
            print(f"{number:3d}: killed at {at}; {parts} parts were whole; {'equal' if same else 'DIFFERENT'}")
        print(f"{equal} of {args.times} equal after {hit} kills")


if __name__ == "__main__":
    main()
