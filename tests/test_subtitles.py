"""Subtitles, cut lists and lists of spans, against a plain count of timecodes and the readers of these formats."""

from __future__ import annotations

import csv
import io
import json
import re
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from films import make_film, numbered
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import OptionError, OutputError
from mien.film.spans import Spans
from mien.film.subtitles import Event, Rate, edl, list_of, said, srt, write_text


def spans(*rows: tuple[float, float, int, float, str]) -> Spans:
    n = len(rows)
    start, end, track, score, label = zip(*rows, strict=True) if rows else ((),) * 5
    frame = np.arange(n, dtype=np.int64)
    return Spans(
        track=np.array(track, np.int64),
        shot=np.zeros(n, np.int64),
        first_frame=frame,
        last_frame=frame,
        start=np.array(start, float),
        end=np.array(end, float),
        frames=np.ones(n, np.int64),
        score=np.array(score, float),
        label=np.array(label, np.str_),
    )


def test_subtitles() -> None:
    text = srt(spans((0.5, 1.25, 3, 0.874, "happy"), (3600.0, 3661.9996, -1, float("nan"), "")))
    assert text == ("1\n00:00:00,500 --> 00:00:01,250\ntrack 3: happy 0.87\n\n2\n01:00:00,000 --> 01:01:02,000\nface\n")
    assert srt(spans()) == ""


def test_subtitles_are_in_order_have_a_length_and_stay_one_line() -> None:
    odd = spans((2.0, 2.0, 1, 0.5, "sad\n\n99\nx"), (float("nan"), 1.0, 1, 0.5, "sad"), (-1.0, 0.2, 2, 0.5, "glück"))
    text = srt(odd)
    assert text.splitlines()[:3] == ["1", "00:00:00,000 --> 00:00:00,200", "track 2: glück 0.50"]
    assert text.splitlines()[4:] == ["2", "00:00:02,000 --> 00:00:02,001", "track 1: sad 99 x 0.50"]


def test_ffmpeg_reads_the_subtitles(tmp_path: Path) -> None:
    rows = [(0.5 + i, 0.9 + i, i, 0.5, "surprise") for i in range(5)]
    write_text(tmp_path / "out.srt", srt(spans(*rows)))
    with av.open(str(tmp_path / "out.srt")) as file:
        packets = [p for p in file.demux(subtitles=0) if p.size]
    assert [float(p.pts * p.time_base) for p in packets] == pytest.approx([r[0] for r in rows])
    assert [float(p.duration * p.time_base) for p in packets] == pytest.approx([0.4] * 5)
    assert bytes(packets[3]).decode() == "track 3: surprise 0.50"


def test_what_is_said() -> None:
    assert said(0, "fear", 0.125) == "track 0: fear 0.12"
    assert said(-1, "fear", float("nan")) == "fear"
    assert said(7, "", float("nan")) == "track 7: face"


def counted(nominal: int, dropped: int, frames: int) -> list[str]:
    """Timecodes one after the other, as a clock that leaves some out would count."""
    h = m = s = f = 0
    out = []
    for _ in range(frames):
        out.append(f"{h:02}:{m:02}:{s:02}{';' if dropped else ':'}{f:02}")
        f += 1
        if f == nominal:
            f, s = 0, s + 1
            if s == 60:
                s, m = 0, m + 1
                f = dropped if m % 10 else 0
                if m == 60:
                    m, h = 0, h + 1
    return out


@pytest.mark.parametrize(
    ("fps", "nominal", "dropped"),
    [(23.976, 24, 0), (24, 24, 0), (25, 25, 0), (29.97, 30, 2), (30, 30, 0), (59.94, 60, 4), (50, 50, 0), (15, 15, 0)],
)
def test_timecodes_equal_a_plain_count(fps: float, nominal: int, dropped: int) -> None:
    rate = Rate.of(fps)
    assert (rate.nominal, rate.dropped) == (nominal, dropped)
    count = 61 * 60 * nominal
    codes = counted(nominal, dropped, count)
    assert [rate.timecode(i) for i in range(count)] == codes
    assert codes[rate.number(1)].startswith("01:00:00")
    assert rate.timecode(rate.number(1)) == codes[rate.number(1)]


@pytest.mark.parametrize("measured", [29.97, 30000 / 1001, 29.9698, 29.975])
def test_drop_frame_keeps_up_with_the_clock(measured: float) -> None:
    rate = Rate.of(measured)
    for hours in (0.5, 1.0, 3.0):
        h, m, s, f = map(int, re.split("[:;]", rate.timecode(rate.frame(hours * 3600))))
        assert h * 3600 + m * 60 + s + f / 30 == pytest.approx(hours * 3600, abs=0.05 * hours + 0.05)


def test_rates_that_cannot_be() -> None:
    assert Rate.of(12.5) == Rate(Rate.of(12.5).exact, 12, 0)
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="timecode"):
            Rate.of(fps)


@cache
def numbers_of(rate: Rate) -> dict[str, int]:
    return {code: i for i, code in enumerate(counted(rate.nominal, rate.dropped, rate.number(1) + rate.frame(900)))}


@given(
    st.lists(st.tuples(st.floats(0, 4000), st.floats(0.05, 30)), min_size=1, max_size=8),
    st.sampled_from([23.976, 24, 25, 29.97, 59.94]),
)
def test_cuts_follow_each_other_and_keep_their_length(cuts: list[tuple[float, float]], fps: float) -> None:
    text = edl([Event(a, a + d) for a, d in cuts], title="t", name="film.mp4", fps=fps)
    rate = Rate.of(fps)
    codes = numbers_of(rate)
    rows = [line.split() for line in text.splitlines() if re.match(r"\d{3} ", line)]
    assert [r[0] for r in rows] == [f"{i:03}" for i in range(1, len(cuts) + 1)]
    at = codes[rows[0][6]]
    assert rows[0][6] in {"01:00:00:00", "01:00:00;00"}
    for row, (start, length) in zip(rows, cuts, strict=True):
        first, last, record, end = (codes[c] for c in row[4:])
        assert first == pytest.approx(start * float(rate.exact), abs=0.51)
        assert last - first == pytest.approx(max(1, length * float(rate.exact)), abs=1.01)
        assert (record, end - record) == (at, last - first)
        at = end


def test_a_cut_list() -> None:
    text = edl([Event(60, 61.5, "track 3: happy é\n0.87")], title="happy é", name="Mein Film (1).mp4", fps=29.97)
    assert text == (
        "TITLE: happy _\nFCM: DROP FRAME\n\n"
        "001  MEINFILM V     C        00:00:59;28 00:01:01;15 01:00:00;00 01:00:01;15\n"
        "* FROM CLIP NAME: Mein Film (1).mp4\n* COMMENT: track 3: happy _ 0.87\n"
    )
    assert " B     C " in edl([Event(0, 1)], title="", name="é", fps=25, sound=True)
    assert "001  AX " in edl([Event(0, 1)], title="", name="é.mp4", fps=25)
    assert edl([], title="x", name="y", fps=25) == "TITLE: x\nFCM: NON-DROP FRAME\n"


def test_a_list_of_spans() -> None:
    held = spans((0.5, 1.25, 3, 0.874, "happy"), (2.0, 3.0, -1, float("nan"), ""))
    rows = list(csv.DictReader(io.StringIO(list_of(held, ".csv", film="m.mp4", query="q"))))
    assert rows[0]["start"] == "0.5"
    assert rows[0]["label"] == "happy"
    assert (rows[1]["track"], rows[1]["score"], rows[1]["label"]) == ("", "", "")
    document = json.loads(list_of(held, ".json", film="m.mp4", query="q"))
    assert document == {"film": "m.mp4", "query": "q", "spans": held.records()}
    with pytest.raises(OptionError, match=r"'\.txt'"):
        list_of(held, ".txt", film="", query="")


def test_texts_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_text(tmp_path / "gone" / "a.srt", "x")
    (tmp_path / "a.srt").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        write_text(tmp_path / "a.srt", "x")


def test_a_film_of_our_own_counts_as_its_timecodes_say(tmp_path: Path) -> None:
    """Frame 40 of a film at 29.97 stands where the cut list puts the time of frame 40."""
    film = make_film(tmp_path / "film.mp4", numbered(60), fps=30000 / 1001)
    with av.open(str(film)) as container:
        times = [f.time for f in container.decode(video=0)]
        fps = float(container.streams.video[0].average_rate)
    assert [Rate.of(fps).frame(t) for t in times] == list(range(60))
