"""How long a question takes on an index of ten million rows, beside pandas and Polars on the same files in one run.

Run: python benchmarks/query.py [--rows 10000000] [--repeat 7] [--folder FOLDER] [--json]

The index is made up: shots of a second to a minute, one to seven faces in each, expressions that last about a second,
15 % of them happy; faces missed, faces too small to be read, frames without a face. It has every column of a true one
and is written as a true one is, row group by row group. With ``--folder`` it is kept and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scene import about, timed

from mien.film.index import (
    FACES,
    FORMAT,
    FRAMES,
    TRACKS,
    Index,
    face_schema,
    face_table,
    frame_table,
    track_table,
    write_manifest,
)
from mien.film.language import FRONTAL
from mien.film.parts import TableFile
from mien.film.query import find
from mien.film.tables import FACE_COLUMNS, FRAME_COLUMNS, Frames, Tracks, arrow_schema
from mien.labels import EIGHT
from mien.models.align import yaw
from mien.results import Faces, Reason

FPS = 25.0
QUERIES = (
    "happy >= 0.7 for 8 frames and alone and frontal",
    "happy for 8 frames",
    "happy",
    "surprise >= 0.6 and side >= 120",
    "(happy or surprise) for 2 s and not alone",
    "happy > sad and yaw < 0.1 and 0:30:00 <= time and time < 1:00:00",
    "contempt >= 0.9 for 0.5 s",
    "not (neutral for 1 s) and alone",
    "alone and frontal and sharpness >= 0.5",
)
_SHARES = np.array([0.06, 0.03, 0.04, 0.15, 0.12, 0.08, 0.48, 0.04])  # in the order of the eight labels
_FIVE = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32)
_SHOTS = 400  # made at once


def shots(rng: np.random.Generator, rows: int) -> Iterator[tuple[Faces, dict[str, NDArray[Any]], Frames]]:
    """Give the rows of some hundred shots at a time, until there are about ``rows``."""
    made = frame = track = shot = 0
    while made < rows:
        length = rng.geometric(1 / 100, _SHOTS) + 24
        count = rng.integers(1, 8, _SHOTS)  # four faces in the middle
        tracks = np.repeat(np.arange(_SHOTS), count)
        lengths = length[tracks]
        starts = np.concatenate([[0], np.cumsum(length)])[tracks] + frame
        owner = np.repeat(np.arange(len(tracks)), lengths)  # the track of each row, track by track
        at = np.repeat(starts, lengths) + np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        seen = rng.random(len(owner)) > 0.02
        owner, at = owner[seen], at[seen]
        order = np.lexsort((owner, at))
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        scores = expressions(rng, owner)[order]
        faces, details = table(rng, owner[order], at[order], scores, track)
        total = int(length.sum())
        frames = Frames.build(
            total,
            ordinal=frame + np.arange(total),
            frame=frame + np.arange(total),
            time=(frame + np.arange(total)) / FPS,
            shot=shot + np.repeat(np.arange(_SHOTS), length),
            change=rng.random(total) * 0.1,
            faces=np.bincount(faces.frame[faces.found] - frame, minlength=total),
            detected=True,
        )
        empty = np.flatnonzero(frames.faces == 0)
        details["shot"] = frames.shot[faces.frame - frame]
        details["faces"] = frames.faces[faces.frame - frame]
        if len(empty):
            faces, details = with_empty(faces, details, frames[empty])
        yield faces, details, frames
        made, frame, track, shot = made + len(faces), frame + total, track + len(tracks), shot + _SHOTS


def expressions(rng: np.random.Generator, owner: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return scores (N, 8): one label leads for about 25 frames, more or less clearly; 5 % of the rows are not read."""
    n = len(owner)
    new = (rng.random(n) < 1 / 25) | (np.diff(owner, prepend=-1) != 0)
    episode = np.cumsum(new) - 1
    lead = rng.choice(8, int(episode[-1]) + 1, p=_SHARES)[episode]
    clear = rng.uniform(1.5, 5.5, int(episode[-1]) + 1)[episode]
    logits = rng.normal(0, 0.4, (n, 8)).astype(np.float32)
    logits[np.arange(n), lead] += clear
    scores = np.exp(logits)
    scores /= scores.sum(1, keepdims=True)
    unread = rng.random(int(owner[-1]) + 1)[owner] < 0.05
    scores[unread] = np.nan
    return scores.astype(np.float32)


def table(
    rng: np.random.Generator,
    owner: NDArray[np.int64],
    at: NDArray[np.int64],
    scores: NDArray[np.float32],
    first_track: int,
) -> tuple[Faces, dict[str, NDArray[Any]]]:
    n, tracks = len(owner), int(owner.max()) + 1
    side = (rng.gamma(4, 25, tracks)[owner] + 20 + rng.normal(0, 1, n)).astype(np.float32)
    corner = rng.uniform(0, 900, (tracks, 2))[owner] + rng.normal(0, 1, (n, 2))
    box = np.concatenate([corner, corner + side[:, None]], 1).astype(np.float32)
    points = box[:, None, :2] + _FIVE * side[:, None, None]
    points[:, 2, 0] += (rng.normal(0, 0.1, tracks)[owner] + rng.normal(0, 0.02, n)) * side
    read = ~np.isnan(scores[:, 0])
    weak = read & (np.nan_to_num(scores).max(1) < 0.4)
    reason = np.where(read, np.where(weak, int(Reason.LOW_SCORE), 0), int(Reason.TOO_SMALL))
    number = np.arange(n) - np.searchsorted(at, at)
    faces = Faces.build(
        n,
        sources=("movie.mp4",),
        frame=at,
        time=at / FPS,
        face=number,
        box=box,
        points=points,
        score=rng.uniform(0.8, 1, n),
        track=first_track + owner,
        reason=reason,
        expression=scores,
    )
    return faces, {
        "ordinal": at,
        "side": side,
        "yaw": yaw(faces.points),
        "sharpness": rng.gamma(4, 0.1, tracks)[owner] + rng.uniform(0, 0.05, n),
        "brightness": rng.normal(120, 20, tracks)[owner] + rng.normal(0, 2, n),
    }


def with_empty(faces: Faces, details: dict[str, NDArray[Any]], frames: Frames) -> tuple[Faces, dict[str, NDArray[Any]]]:
    """Put in the rows of frames without a face."""
    none = Faces.build(
        len(frames), sources=faces.sources, frame=frames.frame, time=frames.time, reason=int(Reason.NO_FACE)
    )
    order = np.argsort(np.concatenate([faces.frame, none.frame]), kind="stable")
    held = {c.name: getattr(frames, c.name, np.full(len(frames), np.nan)) for c in FACE_COLUMNS}
    merged = {name: np.concatenate([values, held[name]])[order] for name, values in details.items()}
    return Faces.concat([faces, none])[order], merged


def make(folder: Path, rows: int, *, seed: int = 0) -> Index:
    """Write an index of about so many rows, holding one row group at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    total = frames = 0
    # The tables are written by what writes those of `mien film index`.
    with (
        TableFile(folder / FACES, face_schema(EIGHT)) as face_file,
        TableFile(folder / FRAMES, arrow_schema({c.name: c for c in FRAME_COLUMNS})) as frame_file,
    ):
        for faces, details, part in shots(rng, rows):
            typed = {c.name: np.asarray(details[c.name], c.dtype) for c in FACE_COLUMNS}
            face_file.add(face_table(faces, typed))
            frame_file.add(frame_table(part))
            total, frames = total + len(faces), frames + len(part)
    pq.write_table(track_table(Tracks.build(0, labels=EIGHT)), folder / TRACKS)  # a query does not read it
    manifest = {
        "format": FORMAT,
        "film": {"name": "movie.mp4", "place": "movie.mp4", "fps": FPS},
        "labels": {"name": EIGHT.name, "labels": list(EIGHT)},
        "settings": {},
        "counts": {"frames": frames, "faces": total},
    }
    write_manifest(folder, manifest)
    return Index.open(folder)


# The same by hand


def with_pandas(index: Index, least: float | None) -> NDArray[np.int64]:
    """Return the rows of "happy for 8 frames", or of the first query, as one writes them with pandas."""
    import pandas as pd

    columns = ["track", "ordinal", "top"] if least is None else ["track", "ordinal", "happy", "faces", "yaw"]
    table = pd.read_parquet(index.faces_file, columns=columns)
    hits = table[table["top"] == "happy"] if least is None else table[table["happy"] >= np.float32(least)]
    hits = hits.sort_values(["track", "ordinal"], kind="stable")
    run = ((hits["track"].diff() != 0) | (hits["ordinal"].diff() != 1)).cumsum()
    hits = hits[run.groupby(run).transform("size") >= 8]
    if least is not None:
        hits = hits[(hits["faces"] == 1) & (hits["yaw"].abs() <= np.float32(FRONTAL))]
    return np.sort(hits.index.to_numpy())


def with_polars(index: Index, least: float | None) -> NDArray[np.int64]:
    """Return the same with Polars, lazily, so that it reads and sorts what it needs."""
    import polars as pl

    rows = pl.scan_parquet(index.faces_file, row_index_name="row")
    hits = rows.filter(pl.col("top") == "happy" if least is None else pl.col("happy") >= pl.lit(least, pl.Float32))
    begins = (pl.col("track").diff() != 0) | (pl.col("ordinal").diff() != 1)
    hits = hits.sort("track", "ordinal").with_columns(run=begins.fill_null(value=True).cum_sum())
    hits = hits.filter(pl.len().over("run") >= 8)
    if least is not None:
        hits = hits.filter((pl.col("faces") == 1) & (pl.col("yaw").abs() <= pl.lit(FRONTAL, pl.Float32)))
    return np.sort(hits.select("row").collect()["row"].to_numpy().astype(np.int64))


PEERS: dict[str, Callable[[Index, float | None], NDArray[np.int64]]] = {"pandas": with_pandas, "polars": with_polars}
BY_HAND: dict[str, float | None] = {QUERIES[0]: 0.7, QUERIES[1]: None}


def versions() -> str:
    held = []
    for package in ("duckdb", "pyarrow", "polars", "pandas"):
        with suppress(PackageNotFoundError):
            held.append(f"{package} {version(package)}")
    return ", ".join(held)


def measured(call: Callable[[], object], repeat: int) -> dict[str, float]:
    """Return milliseconds, of all processors together as well, and the load of the machine before and after."""
    before, spent = os.getloadavg()[0], process_time()
    middle, low, high = timed(call, repeat=repeat, warm=1)
    spent = (process_time() - spent) / (repeat + 1)
    times = {"median": middle, "lowest": low, "highest": high, "processor": spent}
    return {k: v * 1000 for k, v in times.items()} | {"load_before": before, "load_after": os.getloadavg()[0]}


def by_hand(index: Index, repeat: int) -> list[dict[str, Any]]:
    """Measure the two queries that are written out by hand; their rows must be ours."""
    results: list[dict[str, Any]] = []
    for query, least in BY_HAND.items():
        ours = find(index, query).rows
        for name, call in PEERS.items():
            if find_spec(name) is None:
                continue
            assert np.array_equal(call(index, least), ours), f"{name} finds other rows"
            results.append({"query": query, "with": name} | measured(partial(call, index, least), repeat))
    return results


def row_line(row: dict[str, Any]) -> str:
    times = f"{row['median']:7.0f} ms ({row['lowest']:.0f} to {row['highest']:.0f})"
    return (
        f"{row['with']:7} {times:25} processors {row['processor']:5.0f}  load {row['load_before']:4.1f}  {row['query']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="keep the index here, and use it again")
    parser.add_argument("--smooth", action="append", default=[], help="also ask the first query with this smoothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mien-query-") as temporary:
        folder = options.folder or Path(temporary) / "movie.mien"
        begin = perf_counter()
        index = Index.open(folder) if folder.exists() else make(folder, options.rows)
        made = perf_counter() - begin
        megabytes = index.faces_file.stat().st_size / 1e6
        head = f"{about()}, {versions()}\n{len(index):,} rows, {megabytes:.0f} MB; made or opened in {made:.0f} s"
        if not options.json:
            print(head)
        results: list[dict[str, Any]] = []
        for query, smooth in [*((q, None) for q in QUERIES), *((QUERIES[0], s) for s in options.smooth)]:
            times = measured(partial(find, index, query, smooth=smooth), options.repeat)
            found = find(index, query, smooth=smooth)
            name = query + (f" (smoothed {smooth})" if smooth else "")
            results.append({"query": name, "with": "mien", "faces": len(found), "stretches": len(found.spans)} | times)
            if not options.json:
                print(row_line(results[-1]), f"→ {len(found):,} faces, {len(found.spans):,} stretches")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        peers = by_hand(index, options.repeat)
    if options.json:
        print(json.dumps({"about": head, "memory_mb": memory, "results": results + peers}))
        return
    print(f"most memory so far: {memory:.0f} MB")
    for row in peers:
        print(row_line(row))


if __name__ == "__main__":
    main()
