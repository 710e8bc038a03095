"""The judgement of a model and its report: what makes it doubtful first, nothing from outside, every score complete."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mien.cli.app import app
from mien.data.importers import LabelledFaces
from mien.errors import MissingExtraError, OptionError, OutputError
from mien.evaluate import report
from mien.evaluate.judgement import Judgement, answered, judge
from mien.evaluate.report_html import page
from mien.evaluate.report_tables import headlines, number, overall, tables_about_data, tables_of_head
from mien.evaluate.report_text import markdown
from mien.evaluate.run import measure
from mien.labels import EIGHT, SEVEN, LabelSet
from mien.models.expression import Reading
from mien.render import plot
from mien.zoo.card import Head, ModelCard

N = 60


@dataclass
class Model:
    """Answers by the brightness of a crop's first pixel; ``noise`` adds something random to each answer."""

    scores: dict[str, np.ndarray]
    noise: float = 0.0

    heads = (Head("crowd", EIGHT), Head("fer2013", SEVEN))

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    @property
    def card(self) -> ModelCard:
        return ModelCard(
            name="mine <b>", task="expression", file="", sha256="ab" * 32, size=0, licence="", origin="", data="",
            heads=self.heads, temperatures=(("fer2013", 1.5),),
        )  # fmt: skip

    def read(self, crops: np.ndarray) -> Reading:
        i = crops.reshape(len(crops), -1)[:, 0]
        scores = {name: s[i].copy() for name, s in self.scores.items()}
        for s in scores.values():
            s += self.noise * self.rng.random(s.shape, np.float32)
            s /= s.sum(1, keepdims=True)
        return Reading(scores, np.zeros((len(i), 1), np.float32))


def model(*, noise: float = 0.0) -> Model:
    rng = np.random.default_rng(1)
    return Model({h.name: rng.dirichlet(np.ones(len(h.labels)), 256).astype(np.float32) for h in Model.heads}, noise)


def data(**changes: object) -> LabelledFaces:
    """Forty faces to measure, of which two are pixel-equal to training faces, and twenty to train on."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 255, (N, 12, 12), np.uint8).repeat(4, 1).repeat(4, 2)
    images[:, 0, 0] = np.arange(N)
    images[[0, 1]] = images[[40, 41]]
    group = np.arange(N)
    group[[0, 1]] = [40, 41]
    return LabelledFaces(
        **{
            "images": images,
            "label": np.arange(N) % 7,
            "votes": np.array([rng.multinomial(10, rng.dirichlet(np.full(10, 0.4))) for _ in range(N)], np.float32),
            "split": np.array(["PublicTest"] * 40 + ["Training"] * 20),
            "group": group,
            "name": np.array([f"face <i>{i}</i>" for i in range(N)]),
            "person": np.array([f"person {i % 25}" for i in range(N)]),
            "columns": {
                "sex": np.array(["woman", "man"] * 20 + ["man"] * 20),
                "source": np.array(["", "web"] * 30),
                "empty": np.array([""] * N),
            },
        }
        | changes
    )


def judged(faces: LabelledFaces | None = None, *, noise: float = 0.0, **options: object) -> Judgement:
    measured = measure(model(noise=noise), data() if faces is None else faces)
    return judge(measured, today=lambda: dt.date(2024, 2, 3), **options)


@pytest.fixture(scope="module")
def whole() -> Judgement:
    return judged(by=["sex", "source", "empty"])


@pytest.fixture(scope="module")
def html(whole: Judgement) -> str:
    return page(whole)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested elsewhere and take long."""
    monkeypatch.setattr(plot, "_svg", lambda _figure: "<svg/>")


class Reader(HTMLParser):
    """Notes every address, every open element and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in {"src", "href", "srcset", "data", "action"}]
        if tag not in {"meta", "img", "source", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.text += text


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    seen = Reader(html)
    assert seen.open == []
    assert len(seen.addresses) > 20
    assert all(address.startswith("data:image/") for address in seen.addresses)
    assert "script" not in seen.tags
    assert "link" not in seen.tags
    assert "@import" not in html
    assert "url(" not in html


def test_what_the_data_says_is_text_and_no_markup(html: str, whole: Judgement) -> None:
    assert "mine &lt;b&gt;" in html
    assert "mine <b>" not in html
    assert "<i>" not in html
    assert "face \\<i\\>" in markdown(whole)


def test_findings_stand_before_the_scores(html: str, whole: Judgement) -> None:
    for text in (Reader(html).text, markdown(whole)):
        first, score = text.index("equal pictures"), text.index("balanced accuracy")
        assert text.index("What to know first") < first < score
    states = [line.state for line in headlines(whole)]
    assert states[0] == "found"
    assert states == sorted(states, key=["found", "not checked", "clear", "note"].index)
    assert "Read this before the scores" in overall(whole)


def test_a_random_answer_is_found_and_told_at_the_top(quick: None) -> None:
    found = judged(noise=0.5)
    line = next(line for line in headlines(found) if line.title == "random answers")
    assert line.state == "found"
    assert line.text in Reader(page(found)).text


def test_without_checks_the_report_says_so_at_the_top(quick: None) -> None:
    bare = judged(checks=False)
    assert (bare.findings, bare.jitter, bare.checked) == ((), None, False)
    assert headlines(bare)[0].state != "clear"
    assert any(line.title == "honesty checks" and line.state == "not checked" for line in headlines(bare))
    for text in (Reader(page(bare)).text, markdown(bare)):
        assert text.index("were not run (--no-checks)") < text.index("balanced accuracy")


def test_every_score_has_n_interval_and_chance(whole: Judgement) -> None:
    for head in answered(whole.measurement):
        scores, classes, pairs, coverage = tables_of_head(whole, head)
        for name, ours, given, _chance in scores.rows:
            for cell in (ours, given):
                assert re.fullmatch(r"\d\.\d{3}", cell.value), name
                assert re.fullmatch(r"\d\.\d{3}–\d\.\d{3}", cell.interval), name
                assert re.fullmatch(r"n \d+", cell.n), name
        chances = {row[0]: row[3] for row in scores.rows}
        for name in ("accuracy", "balanced accuracy", "macro-F1", "truth among the best two"):
            assert float(chances[name]) > 0
        assert [row[0] for row in classes.rows] == list(head.measured.labels)
        assert all(row[-1] for row in (*classes.rows, *coverage.rows))
        assert pairs.rows


def test_numbers_of_the_page_are_those_of_the_measurement(html: str, whole: Judgement) -> None:
    part = whole.measurement.report.deduplicated
    for estimate in (part.fer2013.accuracy, part.crowd.first_choice.macro_f1, part.crowd.ferplus_majority):
        shown = number(estimate)
        assert f"{shown.value} <small>{shown.interval}</small> <small>{shown.n}</small>" in html
        assert f"{shown.value} ({shown.interval}, {shown.n})" in markdown(whole)


def test_faces_are_shown_with_truth_and_answer(whole: Judgement, html: str) -> None:
    first = answered(whole.measurement)[0]
    assert first.part == "fer2013"
    worst = first.worst(24)
    assert not first.correct[worst].any()
    sure = first.scores[worst].max(1)
    assert (np.diff(sure) <= 0).all()
    assert sure[0] == first.scores[~first.correct].max()
    assert len(set(first.some(24).tolist())) == 24
    assert first.some(24).tolist() == first.some(24).tolist() != first.some(24, seed=1).tolist()
    row = int(worst[0])
    named, truth = SEVEN.labels[first.named[row]], SEVEN.labels[first.truth.label[row]]
    assert f"<span class=wrong>named {named}</span>, truth {truth}" in html
    assert html.count("data:image/png") == sum(24 + len(a.worst(24)) for a in answered(whole.measurement))


def test_a_confusion_of_many_labels_gets_the_whole_width(quick: None) -> None:
    many = LabelSet("many", tuple(f"label {i}" for i in range(12)))
    mine = Model({"labels": np.random.default_rng(0).dirichlet(np.ones(12), 256).astype(np.float32)})
    mine.heads = (Head("labels", many),)
    measured = measure(mine, data(labels=many, label=np.arange(N) % 12))
    text = page(judge(measured, checks=False))
    assert text.count("<figure class=big>") == 2
    assert text.count("<figure>") == 4
    assert "Against the data&#x27;s labels, 38 faces" in text


def test_the_faces_are_those_that_were_measured(whole: Judgement) -> None:
    first, faces = answered(whole.measurement)[0], whole.measurement.measured()
    assert len(faces) == 38
    numbers = faces.images[first.truth.index][:, 0, 0]
    np.testing.assert_allclose(first.scores, model().scores["fer2013"][numbers], rtol=1e-5)
    np.testing.assert_array_equal(first.truth.label, numbers % 7)


def test_persons_of_both_splits_are_told_apart(whole: Judgement) -> None:
    first, faces = answered(whole.measurement)[0], whole.measurement.measured()
    training = {f"person {i % 25}" for i in range(40, N)}
    seen = np.array([p in training for p in faces.person[first.truth.index]])
    right = first.correct
    held = whole.persons
    assert (held.persons, held.faces) == (25, 38)
    assert (held.seen.n, held.new.n) == (int(seen.sum()), int((~seen).sum()))
    assert held.seen.value == pytest.approx(right[seen].mean())
    assert held.new.value == pytest.approx(right[~seen].mean())
    assert held.gap.value == pytest.approx(held.seen.value - held.new.value)
    people = faces.person[first.truth.index]
    assert held.each_once.value == pytest.approx(np.mean([right[people == p].mean() for p in set(people.tolist())]))
    assert held.each_once.n == 25
    assert "persons" not in [line.title for line in headlines(whole)]  # the check says it
    line = next(line for line in headlines(judged(checks=False)) if line.title == "persons")
    assert line.state == "found"
    assert f"the split flatters by {held.gap.value:+.3f}" in line.text
    assert judged(data(person=np.array([""] * N)), checks=False).persons is None


def test_groups_are_compared_and_the_absent_named(whole: Judgement) -> None:
    assert [t.column for t in whole.subgroups] == ["sex", "source"]
    assert whole.subgroups[0].absent == ("woman",)
    assert any("not among the training faces at all: woman" in line.text for line in headlines(whole))
    assert whole.missing == ("empty",)
    assert any(line.title == "empty" and line.state == "not checked" for line in headlines(whole))
    titles = [t.title for t in tables_about_data(whole)]
    assert titles == ["When the box moves", "By person", "By sex", "By source"]
    with pytest.raises(OptionError, match=r"no column age; it has sex, source, empty"):
        judged(by=["age"], checks=False)


def test_a_whole_without_splits_is_checked_too() -> None:
    faces = data(split=np.array(["Training"] * N))
    found = judged(faces)
    assert found.measurement.report.split == "all"
    assert {f.check: f.state for f in found.findings}["equal pictures"] == "not checked"
    assert "all faces were measured" in markdown(found)


def test_when_no_face_is_left_the_report_says_why(quick: None) -> None:
    faces = data()
    copies = replace(faces, group=np.arange(N) % 20)
    found = judged(copies)
    assert found.measurement.report.deduplicated.n == 0
    text = Reader(page(found)).text
    assert "0 of 40 remain" in text
    assert "balanced accuracy" not in text.split("What the numbers mean", maxsplit=1)[0]


def test_the_report_is_written_the_same_each_time(whole: Judgement, quick: None, tmp_path: Path) -> None:
    files = report.write(whole, tmp_path / "a" / "b")
    assert [f.name for f in files] == ["report.html", "report.md", "report.json"]
    once = [f.read_bytes() for f in files]
    assert [f.read_bytes() for f in report.write(whole, tmp_path / "a" / "b")] == once
    table = json.loads(once[2])
    assert table["date"] == "2024-02-03"
    assert table["as_given"]["fer2013"]["accuracy"]["n"] == 40
    assert table["deduplicated"]["crowd"]["first_choice"]["n"] <= 38
    assert [f["check"] for f in table["findings"]][:2] == ["equal pictures", "near-equal pictures"]
    assert table["jitter"]["moves"][-1]["move"] == "both"
    assert table["subgroups"][0]["column"] == "sex"
    assert table["persons"]["persons"] == 25
    assert table["checked"] is True


def test_where_it_cannot_be_written_one_line_says_so(whole: Judgement, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"taken: the report cannot be written there \(.+\); choose another folder"):
        report.write(whole, tmp_path / "taken")


def test_without_matplotlib_nothing_is_measured_in_vain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"mien\[report\]"):
        report.prepare(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_estimate_without_a_value_is_a_dash() -> None:
    assert number(None).value == "–"
    assert number(replace(answered_estimate(), value=float("nan"))).value == "–"


def answered_estimate() -> object:
    from mien.evaluate.metrics import share

    return share(1, 2)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Parquet with thirty faces."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (30, 12, 12), np.uint8).repeat(4, 1).repeat(4, 2)
    pq.write_table(
        pa.table(
            {
                "image": [cv2.imencode(".png", crop)[1].tobytes() for crop in crops],
                "label": [i % 7 for i in range(30)],
                "usage": ["PublicTest"] * 20 + ["Training"] * 10,
                "ferplus": [[8, 2, 0, 0, 0, 0, 0, 0, 0, 0]] * 30,
            }
        ),
        tmp_path / "faces.parquet",
    )
    return tmp_path / "faces.parquet"


def mien(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", "expression", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_writes_a_report(table: Path, quick: None, tmp_path: Path) -> None:
    code, out, err = mien(table, "--out", tmp_path / "report", "--no-checks")
    assert code == 0
    assert out.index("were not run (--no-checks)") < out.index("FER2013 seven: accuracy")
    assert "report.html" in err
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == ["report.html", "report.json", "report.md"]
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    code, out, _ = mien(table, "--json", "--no-checks")
    assert json.loads(out) == written


def test_the_command_names_columns_that_are_not_there(table: Path) -> None:
    code, _, err = mien(table, "--no-checks", "--by", "sex,age")
    assert code == 2
    assert "no column sex, age" in err
    assert len(err.strip().splitlines()) == 1


def test_the_command_says_at_once_that_it_cannot_write(table: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    code, out, err = mien(table, "--out", tmp_path / "taken")
    assert (code, out) == (2, "")
    assert "cannot be written there" in err
