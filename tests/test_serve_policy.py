"""The declared purpose: what is allowed, what is refused and why, who declares it, where it is kept."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import client, face, settings

from mien.errors import OptionError
from mien.serve.declaration import Record
from mien.serve.policy import Policy, check
from mien.serve.problem import Problem
from mien.serve.purposes import (
    NOTE_CHARACTERS,
    PURPOSES,
    clean_note,
    field_named_by,
    note_long_enough,
)
from mien.serve.texts import LANGUAGES, Language, texts_in, version
from mien.serve.tokens import Role, make_token

REFUSED = [p.name for p in PURPOSES.values() if not p.allowed]
ALLOWED = [p.name for p in PURPOSES.values() if p.allowed]


def policy(state: Path, environ: dict[str, str] | None = None, **changes: Any) -> Policy:
    return Policy(settings(state, **changes), environ=environ or {})


# Purposes


@pytest.mark.parametrize(
    ("scenario", "allowed"),
    [
        ("lie_detection", False),
        ("fraud_detection", False),
        ("home", True),
        ("driver", True),
        ("driver_rating", False),
        ("school", False),
        ("work", False),
    ],
)
def test_each_scenario_has_an_answer_and_a_reason(scenario: str, allowed: bool) -> None:
    purpose = PURPOSES[scenario]
    assert purpose.allowed is allowed
    assert purpose.law
    assert len(texts_in("en")[f"purpose.{scenario}.reason"].split()) > 25


def test_what_the_law_prohibits_is_told_from_what_mien_will_not_do() -> None:
    prohibited = {p.name for p in PURPOSES.values() if any("Art. 5(1)(f)" in where for where in p.law)}
    assert prohibited == {"work", "school", "driver_rating", "medical", "safety", "driver"}
    assert {p.name for p in PURPOSES.values() if p.allowed} & prohibited == {"medical", "safety", "driver"}
    for purpose in PURPOSES.values():
        assert (purpose.ground is None) == purpose.allowed
        assert purpose.may_name <= set(REFUSED)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_purpose_has_its_words(language: Language) -> None:
    named = {k.split(".")[1] for k in texts_in(language) if k.startswith("purpose.")}
    assert named == set(PURPOSES)
    assert all(f"purpose.{name}.reason" in texts_in(language) for name in PURPOSES)


@pytest.mark.parametrize(
    ("note", "field", "word"),
    [
        ("to see whether our employees are happy today", "work", "employees"),
        ("screening applicants before we talk to them", "work", "applicants"),
        ("job INTERVIEWS on video", "work", "interviews"),
        ("how attentive are the ＳＴＵＤＥＮＴＳ in the hall", "school", "students"),  # full-width letters
        ("camera during the final exam", "school", "exam"),
        ("who lies at the poker table", "lie_detection", "lies"),
        ("micro-expressions of a speaker", "lie_detection", "microexpressions"),
        ("tell a scam at the counter", "fraud_detection", "scam"),
        ("people waiting at the border", "police", "border"),
        ("give a loan to who smiles", "decisions", "loan"),
        ("count happy shoppers near the door", "public", "shoppers"),
        ("film my flatmates secretly", "covert", "secretly"),
        ("хотим видеть настроение наших сотрудников", "work", "сотрудников"),
        ("внимание школьников на уроке", "school", "школьников"),
        ("узнать, кто лжёт", "lie_detection", "лжёт"),
        ("поиск мошенников в очереди", "fraud_detection", "мошенников"),
        ("观察员工的表情", "work", "员工"),
        ("看学生上课是否专心", "school", "学生"),
        ("分析客户有没有说谎", "lie_detection", "说谎"),
        ("识别银行诈骗的人", "fraud_detection", "诈骗"),
        ("给司机评分", "driver_rating", "司机评分"),
    ],
)
def test_a_note_that_names_a_refused_use_is_found(note: str, field: str, word: str) -> None:
    found = field_named_by(clean_note(note))
    assert found is not None
    assert found[0] == field
    assert word in found[1] or found[1] in word


@pytest.mark.parametrize(
    "note",
    [
        "for example a puppet play in our garden",
        "I believe that my cat families would like it",
        "relief sculptures and their applied colours",
        "Cordoba street theatre with masks we made",
        "наложение масок на лица в домашнем спектакле",
        "木偶剧里给我家的木偶配表情",
        "a lamp that smiles back",
    ],
)
def test_a_note_about_something_else_is_not(note: str) -> None:
    assert field_named_by(note) is None


def test_a_film_about_a_school_may_name_pupils() -> None:
    note = "documentary about a school and its pupils, licensed"
    assert field_named_by(note, PURPOSES["film"].may_name) is None
    assert field_named_by(note, PURPOSES["home"].may_name) == ("school", "school")


@pytest.mark.parametrize(
    ("note", "fault"),
    [
        ("x" * (NOTE_CHARACTERS + 1), "501 characters"),
        ("a bell\x07 rings", "U\\+0007"),
        ("a zero\x00 byte", "U\\+0000"),
        ("turned \u202eround", "U\\+202E"),
        ("line\u2028separator", "U\\+2028"),
        ("half \ud800 a pair", "U\\+D800"),
    ],
)
def test_a_note_that_cannot_be_shown_is_refused(note: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        clean_note(note)


def test_lines_of_a_note_become_one() -> None:
    assert clean_note("  a lamp\r\nthat\tsmiles  ") == "a lamp that smiles"


@given(st.text(max_size=NOTE_CHARACTERS))
def test_a_clean_note_is_one_line_and_stays_as_it_is(note: str) -> None:
    try:
        clean = clean_note(note)
    except ValueError:
        return
    assert clean == clean_note(clean)
    assert clean.isprintable()
    found = field_named_by(clean)
    assert found is None or found[0] in REFUSED


def test_how_much_a_note_says_is_counted_in_words() -> None:
    assert note_long_enough("a lamp that smiles back")
    assert note_long_enough("会微笑的台灯对我")
    assert not note_long_enough("灯")
    assert not note_long_enough("1 2 3 4 5 6 . . .")
    assert not note_long_enough("")


# What the settings say


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_purpose_in_the_settings_is_an_error_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError) as caught:
        policy(tmp_path, purpose=name)
    message = str(caught.value)
    assert texts_in("en")[f"purpose.{name}.reason"] in message
    assert PURPOSES[name].law[0] in message
    assert "\n" not in message


def test_a_purpose_that_does_not_exist_is_an_error_that_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"research.*film.*other"):
        policy(tmp_path, purpose="marketing")


@pytest.mark.parametrize("name", [n for n in ALLOWED if n != "other"])
def test_an_allowed_purpose_in_the_settings_holds(tmp_path: Path, name: str) -> None:
    held = policy(tmp_path, purpose=name)
    assert held.purpose == name
    assert held.fixed
    check(held)
    assert not list(tmp_path.iterdir())


def test_another_purpose_in_the_settings_needs_its_note(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"MIEN_PURPOSE_NOTE: .*at least 4 words"):
        policy(tmp_path, purpose="other")
    with pytest.raises(OptionError, match="prohibited in the European Union"):
        policy(tmp_path, {"MIEN_PURPOSE_NOTE": "mood of the staff in our shop"}, purpose="other")
    held = policy(tmp_path, {"MIEN_PURPOSE_NOTE": "a lamp that smiles back"}, purpose="other")
    assert held.declaration is not None
    assert held.declaration.note == "a lamp that smiles back"


@pytest.mark.parametrize("name", ["MIEN_CONTROLLER", "MIEN_CONTACT", "MIEN_LEGAL_BASIS", "MIEN_PURPOSE_NOTE"])
def test_what_is_printed_on_the_notice_is_checked_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=name):
        policy(tmp_path, {name: "A \x1b[31mred\x1b[0m company"})


def test_without_a_purpose_no_face_is_read(tmp_path: Path) -> None:
    held = policy(tmp_path, purpose=None)
    assert held.purpose is None
    with pytest.raises(Problem) as caught:
        check(held)
    assert (caught.value.status, caught.value.code) == (403, "purpose")


# What the page says


def test_a_purpose_is_declared_used_changed_and_withdrawn(tmp_path: Path) -> None:
    with client(tmp_path, purpose=None) as http:
        asked: dict[str, Any] = {"content": face(), "headers": {"Content-Type": "image/png"}}
        assert http.post("/v1/analyze", **asked).json()["error"]["code"] == "purpose"
        assert http.get("/v1/policy").json()["purpose"] is None

        answer = http.post("/v1/policy", json={"purpose": "art", "note": " masks\nin the hall "})
        assert answer.status_code == 200
        shown = answer.json()
        assert (shown["purpose"], shown["note"], shown["fixed"]) == ("art", "masks in the hall", False)
        assert shown["notice_version"] == shown["declared_version"] == version()
        assert http.post("/v1/analyze", **asked).status_code == 200

        file = tmp_path / "policy.json"
        assert file.stat().st_mode & 0o777 == 0o600
        kept = json.loads(file.read_text("utf-8"))
        assert set(kept) == {"purpose", "note", "time", "by", "notice_version"}
        assert (kept["purpose"], kept["by"]) == ("art", "local")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", kept["time"])

        assert http.post("/v1/policy", json={"purpose": "film"}).json()["note"] is None
        assert http.delete("/v1/policy").status_code == 204
        assert not file.exists()
        assert http.post("/v1/analyze", **asked).status_code == 403
        assert http.delete("/v1/policy").status_code == 204


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_refused_purpose_is_answered_with_the_reason(tmp_path: Path, name: str, language: Language) -> None:
    held = policy(tmp_path, purpose=None)
    with pytest.raises(Problem) as caught:
        held.declare(name, "", "anna", language)
    assert (caught.value.status, caught.value.code) == (403, "purpose_refused")
    assert texts_in(language)[f"purpose.{name}.reason"] in str(caught.value)
    assert held.purpose is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"purpose": "work"}, 403, "purpose_refused"),
        ({"purpose": "personal", "note": "my employees"}, 403, "note_refused"),
        ({"purpose": "marketing"}, 422, "unknown_purpose"),
        ({"purpose": "other"}, 422, "note"),
        ({"purpose": "other", "note": "stuff"}, 422, "note"),
        ({"purpose": "film", "note": "a\x00b"}, 422, "note"),
        ({"purpose": "film", "note": "x" * 501}, 422, "invalid"),
        ({"purpose": "x" * 41}, 422, "invalid"),
        ({"purpose": ["film"]}, 422, "invalid"),
        ({"purpose": "film", "until": "2030"}, 422, "invalid"),
        ({}, 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
def test_a_declaration_that_cannot_be_changes_nothing(tmp_path: Path, body: Any, status: int, code: str) -> None:
    with client(tmp_path, purpose=None) as http:
        http.post("/v1/policy", json={"purpose": "art"})
        answer = http.post("/v1/policy", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert http.get("/v1/policy").json()["purpose"] == "art"


def test_a_refusal_is_told_in_the_language_of_the_page(tmp_path: Path) -> None:
    with client(tmp_path, purpose=None) as http:
        body = {"purpose": "other", "note": "хотим видеть настроение сотрудников"}
        said = http.post("/v1/policy?lang=ru", json=body).json()["error"]["message"]
        assert "«сотрудников»" in said
        assert texts_in("ru")["purpose.work.reason"] in said
        assert http.get("/v1/policy?lang=xx").status_code == 422
        assert http.get("/v1/policy?lang=zh").json()["purposes"][0]["title"] == texts_in("zh")["purpose.development"]


def test_the_settings_go_before_the_page(tmp_path: Path) -> None:
    with client(tmp_path, purpose=None) as http:
        http.post("/v1/policy", json={"purpose": "art"})
    with client(tmp_path, purpose="film") as http:
        shown = http.get("/v1/policy").json()
        assert (shown["purpose"], shown["fixed"]) == ("film", True)
        for answer in (http.post("/v1/policy", json={"purpose": "home"}), http.delete("/v1/policy")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "purpose_fixed")
    with client(tmp_path, purpose=None) as http:
        assert http.get("/v1/policy").json()["purpose"] == "art"


def test_only_an_admin_declares_and_everybody_may_read(tmp_path: Path) -> None:
    tokens = {role: make_token(role.name.lower(), role) for role in Role}
    file = tmp_path / "tokens.txt"
    file.write_text("".join(f"{line}\n" for _, line in tokens.values()))
    file.chmod(0o600)
    with client(tmp_path / "state", purpose=None, token_file=file) as http:
        said: dict[Role, Any] = {role: {"Authorization": f"Bearer {token}"} for role, (token, _) in tokens.items()}
        declare: dict[str, Any] = {"json": {"purpose": "film"}}
        assert http.post("/v1/policy", **declare).status_code == 401
        assert http.delete("/v1/policy").status_code == 401
        for role in (Role.VIEWER, Role.USER):
            assert http.post("/v1/policy", **declare, headers=said[role]).status_code == 403
            assert http.delete("/v1/policy", headers=said[role]).status_code == 403
        assert http.post("/v1/policy", **declare, headers=said[Role.ADMIN]).status_code == 200
        shown = http.get("/v1/policy")
        assert shown.json()["purpose"] == "film"
        assert "admin" not in shown.text  # whose token it was is nobody else's business
        assert http.get("/v1/notice").status_code == 200
        assert http.get("/v1/stored").status_code == 401
        items = {i["id"]: i for i in http.get("/v1/stored", headers=said[Role.VIEWER]).json()["items"]}
        assert items["tokens"]["stored"]
        assert items["rates"]["stored"]
        assert items["addresses"]["stored"]
        for token, line in tokens.values():
            assert token not in str(items)
            assert line.split()[-1] not in str(items)


# The file


def test_another_process_sees_a_change(tmp_path: Path) -> None:
    one, other = policy(tmp_path, purpose=None), policy(tmp_path, purpose=None)
    assert other.purpose is None
    for purpose in ("film", "art", "home", "film"):
        one.declare(purpose, "", "anna")
        assert other.purpose == purpose
    other.withdraw()
    assert one.purpose is None


def test_many_writers_and_readers_never_see_half_a_file(tmp_path: Path) -> None:
    seen: set[str | None] = set()
    held = [policy(tmp_path, purpose=None) for _ in range(4)]
    held[0].declare("film", "", "anna")

    def work(number: int) -> None:
        for turn in range(25):
            held[number].declare(ALLOWED[(number + turn) % 5], "n" * (turn * 17), f"writer{number}")
            seen.update(each.purpose for each in held)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in seen
    assert seen <= set(ALLOWED)
    assert [p.name for p in tmp_path.iterdir()] == ["policy.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"[" * 60_000,
        b'{"purpose": "film"}',
        b'{"purpose": "work", "note": "", "time": "", "by": "", "notice_version": ""}',
        b'{"purpose": "marketing", "note": "", "time": "", "by": "", "notice_version": ""}',
        b'{"purpose": ["film"], "note": "", "time": "", "by": "", "notice_version": ""}',
        b'{"purpose": "film", "note": "a\\u0000b", "time": "", "by": "", "notice_version": ""}',
        b'{"purpose": "film", "note": "' + b"x" * 100_000 + b'", "time": "", "by": "", "notice_version": ""}',
    ],
)
def test_a_file_that_cannot_be_used_declares_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "policy.json").write_bytes(content)
    held = policy(tmp_path, purpose=None)
    assert held.purpose is None
    assert held.purpose is None
    assert len([r for r in caplog.records if "no purpose is declared" in r.getMessage()]) == 1
    assert str(tmp_path) not in caplog.text
    assert held.declare("film", "", "anna").purpose == held.purpose == "film"


def test_what_a_killed_process_left_is_removed_but_not_what_another_writes(tmp_path: Path) -> None:
    old, new = tmp_path / ".policy.json.old", tmp_path / ".policy.json.new"
    old.write_text("half")
    new.write_text("half")
    os.utime(old, (time.time() - 3600,) * 2)
    Record(tmp_path / "policy.json")
    assert [p.name for p in tmp_path.iterdir()] == [new.name]


def test_a_state_that_cannot_be_written_is_an_answer_without_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    held = policy(tmp_path / "file" / "state", purpose=None)
    assert held.purpose is None
    with pytest.raises(Problem) as caught:
        held.declare("film", "", "anna")
    assert (caught.value.status, caught.value.code) == (500, "state")
    assert str(tmp_path) not in str(caught.value) + str(caught.value.hint)


def test_the_documentation_lists_every_purpose_where_it_belongs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "policy.md").read_text("utf-8")
    allowed = page.split("## What is allowed")[1].split("## What is refused")[0]
    refused = page.split("## What is refused")[1].split("**Work and school.**")[0]
    assert re.findall(r"^\| `(\w+)`", allowed, re.MULTILINE) == ALLOWED
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (?:the|our) (law|choice):", refused, re.MULTILINE))
    assert rows == {p.name: p.ground for p in PURPOSES.values() if not p.allowed}
    assert f"at most {NOTE_CHARACTERS} characters" in page
