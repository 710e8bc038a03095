"""The notice, the texts in each language, and what the service says that it stores."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from films import make_film, numbered
from serving import client, face, settings

from mien.serve.declaration import Declaration
from mien.serve.notice import Sheet, duration, notice_of
from mien.serve.sheet import html_of
from mien.serve.texts import LANGUAGES, Language, preferred, texts_in

DECLARED = Declaration(purpose="film", note="", time="2026-01-01T00:00:00Z", by="anna", notice_version="0")

# Texts


@pytest.mark.parametrize("part", ["page", "policy"])
def test_all_languages_have_the_same_keys_and_placeholders(part: str) -> None:
    folder = files("mien.serve") / "web" / "texts"
    texts = {each: json.loads((folder / f"{each}.json").read_text("utf-8"))[part] for each in LANGUAGES}
    for language in LANGUAGES:
        assert set(texts[language]) == set(texts["en"]), language
        for key, text in texts[language].items():
            there = sorted(re.findall(r"\{(\w*)\}", texts["en"][key]))
            assert sorted(re.findall(r"\{(\w*)\}", text)) == there, (language, key)
            assert text.strip(), (language, key)
            assert text == text.strip(), (language, key)
            assert text.isprintable(), (language, key)


@pytest.mark.parametrize(("language", "script"), [("zh", r"[\u4e00-\u9fff]"), ("ru", r"[\u0400-\u04ff]")])
def test_every_text_of_the_policy_is_translated(language: Language, script: str) -> None:
    untranslated = [k for k, text in texts_in(language).items() if not re.search(script, text)]
    assert untranslated == ["notice.purpose", "notice.purpose.note"]  # placeholders and punctuation alone


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("de, fr;q=0.9", "en"),
        ("de, zh-TW;q=0.4, en;q=0.3", "zh"),
        ("en;q=0, ru;q=nonsense, *", "en"),
        ("x" * 100_000, "en"),
    ],
)
def test_the_language_of_a_browser_is_taken(header: str, language: str) -> None:
    assert preferred(header) == language


@pytest.mark.parametrize(
    ("seconds", "english", "russian"),
    [
        (1, "1 second", "1 секунду"),
        (59.2, "1 minute", "1 минуту"),
        (120, "2 minutes", "2 минуты"),
        (660, "11 minutes", "11 минут"),
        (21 * 60, "21 minutes", "21 минуту"),
        (3600, "1 hour", "1 час"),
        (4 * 3600, "4 hours", "4 часа"),
        (7 * 86_400, "7 days", "7 дней"),
        (112 * 86_400, "112 days", "112 дней"),
        (3601, "3601 seconds", "3601 секунду"),
    ],
)
def test_a_length_of_time_is_written_in_words(seconds: float, english: str, russian: str) -> None:
    assert duration(seconds, "en") == english
    assert duration(seconds, "ru") == russian


# The notice


class Tags(HTMLParser):
    """Reads a page strictly enough: every tag closed, in order; what an attribute or a script could do is noted."""

    EMPTY = frozenset({"meta", "link", "path", "rect", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sheet_says_all_of_the_notice_and_nothing_can_run_on_it(tmp_path: Path, language: Language) -> None:
    nasty = "<script>alert(1)</script> \"onload='x' {title} & </p>"
    sheet = Sheet(controller=nasty, contact=nasty + "2", legal_basis="")
    declared = Declaration(purpose="film", note=nasty + "3", time="", by="", notice_version="")
    notice = notice_of(settings(tmp_path), declared, sheet, language)
    tags = Tags(html_of(notice, "https://faces.example"))
    assert "script" not in tags.names
    assert "style" not in [*tags.names, *tags.attributes]
    assert not [a for a in tags.attributes if a.startswith("on")]
    for said in (nasty, nasty + "2", nasty + "3", notice.title, notice.lead, notice.law):
        assert said in tags.text
    assert all(p.title in tags.text and p.text in tags.text for p in notice.paragraphs)
    assert notice.blanks is not None
    assert notice.blanks in tags.text


def test_the_notice_says_what_holds_for_this_service(tmp_path: Path) -> None:
    def said(declaration: Declaration | None = DECLARED, sheet: Sheet | None = None, **changes: Any) -> dict[str, Any]:
        notice = notice_of(settings(tmp_path, **changes), declaration, sheet or Sheet(), "en")
        return notice.model_dump() | {p.id: p.text for p in notice.paragraphs}

    assert "15 minutes" in said()["kept"]
    assert "30 seconds" in said(limits={"hand_over": 30.0})["kept"]
    assert "7 days" in said(keep=7 * 86_400.0)["kept"]
    assert "15 minutes" not in said(keep=7 * 86_400.0)["kept"]
    assert said()["purpose"] == "Film making and archives."
    assert "reads no face" in said(None)["purpose"]
    blank = said()
    assert (blank["controller"], blank["contact"], blank["legal_basis"]) == (None, None, None)
    assert "by hand" in blank["blanks"]
    full = said(sheet=Sheet("Kino", "kino@kino.example", "consent"))
    assert (full["controller"], full["contact"], full["blanks"]) == ("Kino", "kino@kino.example", None)
    for word in ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral", "contemptuous"):
        assert word in said()["what"]
    assert "not feelings" in said()["not"]
    assert "50(3)" in said()["law"]


def test_the_notice_is_for_everybody_in_each_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CONTROLLER", "Kino am Ufer")
    with client(tmp_path) as http:
        for language in LANGUAGES:
            held = http.get(f"/v1/notice?lang={language}").json()
            assert held["language"] == language
            assert held["title"] == texts_in(language)["notice.title"]
            assert held["controller"] == "Kino am Ufer"
        assert http.get("/v1/notice?lang=de").status_code == 422


# What is stored


def stored(http: Any) -> dict[str, Any]:
    answer = http.get("/v1/stored")
    assert answer.status_code == 200
    held: dict[str, Any] = answer.json()
    return held | {"items": {i["id"]: i for i in held["items"]}}


def test_what_is_stored_is_what_lies_on_the_disk(tmp_path: Path) -> None:
    film = make_film(tmp_path / "holiday.mp4", numbered(3))
    with client(tmp_path / "state", purpose=None) as http:
        before = stored(http)
        assert (before["items"]["films"]["count"], before["bytes"], before["next_deletion"]) == (0, 0, None)
        assert not before["items"]["policy"]["stored"]
        assert not (tmp_path / "state" / "policy.json").exists()

        http.post("/v1/policy", json={"purpose": "film"})
        http.post("/v1/analyze", content=face(), headers={"Content-Type": "image/png"})
        sent = http.post("/v1/films", files={"file": ("holiday.mp4", film.read_bytes(), "video/mp4")})
        assert sent.status_code == 202
        held = stored(http)
        assert held["items"]["policy"]["stored"]
        assert held["items"]["films"]["count"] == 1
        assert held["items"]["jobs"]["count"] == 1
        assert held["bytes"] >= film.stat().st_size
        assert held["items"]["pictures"]["stored"] is False
        assert "holiday" not in str(held)
        assert str(tmp_path) not in str(held)

        http.delete(f"/v1/jobs/{sent.json()['id']}")
        after = stored(http)
        assert (after["items"]["films"]["count"], after["bytes"]) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "there", "missing"),
    [
        ({}, {"pictures", "frames", "films", "results", "log", "browser"}, {"fetched", "certificate", "addresses"}),
        ({"fetch": True}, {"fetched"}, set()),
        ({"tls": "self-signed"}, {"certificate"}, set()),
    ],
)
def test_the_list_follows_the_settings(tmp_path: Path, changes: Any, there: set[str], missing: set[str]) -> None:
    with client(tmp_path, **changes) as http:
        items = stored(http)["items"]
        assert there <= set(items)
        assert not missing & set(items)


def test_how_long_things_are_kept_follows_the_settings(tmp_path: Path) -> None:
    with client(tmp_path / "a") as http:
        none = stored(http)
    with client(tmp_path / "b", keep=86_400.0) as http:
        some = stored(http)
    assert "15 minutes" in none["items"]["results"]["how_long"]
    assert "when the work ends" in none["items"]["films"]["how_long"]
    assert "1 day" in some["items"]["results"]["how_long"]
    assert "1 day" in some["items"]["films"]["how_long"]
    assert (none["keep_seconds"], some["keep_seconds"]) == (0, 86_400)


def test_counters_of_several_processes_lie_in_the_state(tmp_path: Path) -> None:
    where = {}
    for workers in (1, 2):
        with client(tmp_path / str(workers), workers=workers) as http:
            where[workers] = stored(http)["items"]["measures"]["where"]
    assert where == {1: "in memory only", 2: "in the state folder of the service"}


def test_the_service_leaves_nothing_else_in_its_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with client(state, purpose=None) as http:
        http.post("/v1/policy", json={"purpose": "film"})
        http.post("/v1/analyze", content=face(), headers={"Content-Type": "image/png"})
        http.get("/notice")
    names = {p.relative_to(state).as_posix() for p in state.rglob("*")}
    assert {n for n in names if not n.startswith("jobs.sqlite")} == {"films", "policy.json"}


def test_the_log_holds_what_the_page_says_it_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="mien.serve")
    with client(tmp_path, purpose=None) as http:
        http.post("/v1/policy", json={"purpose": "other", "note": "my grandmother and her lamp"})
        for content in (face(), b"not a picture", b""):
            http.post("/v1/analyze", files={"file": ("grandmother.png", content, "image/png")})
        http.get("/v1/grandmother?name=grandmother")
    assert "/v1/analyze" in caplog.text
    for secret in ("grandmother", "testclient", str(tmp_path), "happy"):
        assert secret not in caplog.text
