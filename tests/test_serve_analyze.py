from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import BlueDetector, RedReader
from fastapi.testclient import TestClient
from gate import Gate, until
from serving import client, face, fake_analyzer, plain, settings

from mien.media.stills import read_picture
from mien.models.base import Boxes
from mien.pipeline.analyzer import Analyzer, Settings
from mien.results.columns import Reason
from mien.results.faces import Faces
from mien.results.files import read_faces
from mien.results.table import from_arrow
from mien.serve.examples import ANALYSIS
from mien.serve.picture import Found
from mien.serve.shapes import HINTS, Analysis, FaceRecord, picture_read, reasons_of
from mien.serve.start import running

PNG = {"content-type": "image/png"}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[TestClient]:
    with client(tmp_path) as held:
        yield held


def form(*files: bytes, names: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, bytes]]]:
    return [("pictures", (n, f)) for f, n in zip(files, names or [f"{i}.png" for i in range(len(files))], strict=True)]


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_raw_form_and_json_give_the_same_faces_as_the_library(web: TestClient) -> None:
    data = base64.b64encode(face()).decode()
    answers = [
        web.post("/v1/analyze", content=face(), headers=PNG),
        web.post("/v1/analyze", content=face(), headers={"content-type": "application/octet-stream"}),
        web.post("/v1/analyze", files=form(face(), names=("picture",))),
        web.post("/v1/analyze", json={"pictures": [{"data": data}]}),
    ]
    direct = fake_analyzer().picture(read_picture(face()), source="picture")
    assert {a.status_code for a in answers} == {200}
    for answer in answers:
        body = answer.json()
        Analysis.model_validate(body)
        (picture,) = body["pictures"]
        assert picture["faces"] == [r | {"undecided": False, "crop": None} for r in direct.records()]
        assert (picture["width"], picture["height"], picture["reasons"], picture["hint"]) == (160, 120, [], None)
        assert body["model"] == {"name": "red", "sha256": ""}
        assert body["labels"] == list(direct.labels)
        assert answer.headers["cache-control"] == "no-store"


def test_a_record_has_the_declared_columns_and_the_document_says_so(web: TestClient) -> None:
    record = fake_analyzer().picture(read_picture(face())).records()[0]
    assert set(FaceRecord.model_fields) == {*record, "undecided", "crop"}
    schema = web.get("/v1/openapi.json").json()["components"]["schemas"]["FaceRecord"]
    assert set(schema["properties"]) == set(FaceRecord.model_fields)
    assert set(schema["required"]) == set(record)
    Analysis.model_validate(ANALYSIS, extra="forbid")


def test_the_document_names_bodies_options_and_answers(web: TestClient) -> None:
    post = web.get("/v1/openapi.json").json()["paths"]["/v1/analyze"]["post"]
    assert set(post["requestBody"]["content"]) == {
        "multipart/form-data",
        "image/*",
        "application/octet-stream",
        "application/json",
    }
    assert {p["name"] for p in post["parameters"]} == {"labels", "min_score", "best_only", "include", "format"}
    assert {"200", "413", "415", "422", "429", "503", "504"} <= set(post["responses"])
    assert post["operationId"] == "analyze"


def test_each_picture_among_several_has_its_own_answer_and_its_own_name(web: TestClient) -> None:
    files = form(face(), b"no picture", plain(), face(red=10), names=("a.png", "a.png", "b.png", "a.png"))
    body = web.post("/v1/analyze", files=files).json()
    Analysis.model_validate(body)
    shown = [(p["name"], len(p["faces"]), p["reasons"], (p["error"] or {}).get("code")) for p in body["pictures"]]
    assert shown == [
        ("a.png", 1, [], None),
        ("a.png (2)", 0, ["unreadable"], "not_a_picture"),
        ("b.png", 0, ["no_face"], None),
        ("a.png (3)", 1, [], None),
    ]
    assert "larger" in body["pictures"][2]["hint"]


def test_a_picture_that_is_cut_off_or_too_large_among_others(tmp_path: Path) -> None:
    with client(tmp_path, limits={"pixels": 20_000}) as web:
        body = web.post("/v1/analyze", files=form(face(), face()[:200], plain(width=200))).json()
        alone = [web.post("/v1/analyze", content=c, headers=PNG) for c in (face()[:200], plain(width=200), b"x", b"")]
    assert [(p["error"] or {}).get("code") for p in body["pictures"]] == [None, "not_readable", "too_many_pixels"]
    assert [error(a) for a in alone] == [
        (415, "not_readable"),
        (413, "too_many_pixels"),
        (415, "not_a_picture"),
        (alone[3].status_code, alone[3].json()["error"]["code"]),
    ]
    assert alone[3].status_code in {415, 422}
    assert "--max-megapixels" not in alone[1].text  # an option of a program that the client does not have


def test_options_come_from_query_form_and_json_alike(web: TestClient) -> None:
    data = base64.b64encode(face()).decode()
    answers = [
        web.post("/v1/analyze?labels=three&min_score=0.9", content=face(), headers=PNG),
        web.post("/v1/analyze", files=form(face()), data={"labels": "three", "min_score": "0.9"}),
        web.post("/v1/analyze?labels=six", files=form(face()), data={"labels": "three", "min_score": "0.9"}),
        web.post("/v1/analyze", json={"pictures": [{"data": data}], "options": {"labels": "three", "min_score": 0.9}}),
    ]
    for answer in answers:
        body = answer.json()
        assert body["labels"] == ["negative", "happy", "neutral"]
        (shown,) = body["pictures"][0]["faces"]
        assert (shown["top"], shown["reason"]) == (None, ["low_score"])
        assert shown["scores"]["happy"] == pytest.approx(0.776, abs=0.01)
        assert body["pictures"][0]["reasons"] == ["low_score"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("labels=nine", "eight, seven, six, five, three"),
        ("labels=" + "x" * 50, "labels"),
        ("min_score=2", "min_score"),
        ("min_score=nan", "min_score"),
        ("min_score=much", "min_score"),
        ("best_only=maybe", "best_only"),
        ("include=csv,everything", "everything"),
        ("format=xml", "format"),
        ("minscore=0.5", "unknown option 'minscore'"),
    ],
)
def test_a_wrong_option_is_refused_in_one_clear_line(web: TestClient, query: str, says: str) -> None:
    answer = web.post(f"/v1/analyze?{query}", content=face(), headers=PNG)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] in {"option", "unknown_label"}
    assert says in answer.json()["error"]["message"]
    name, _, value = query.partition("=")
    assert (
        web.post("/v1/analyze", files=form(face()), data={name: value}).json()["error"]["message"]
        == (answer.json()["error"]["message"])
    )


class Two(BlueDetector):
    def __call__(self, picture: Any, /) -> Boxes:
        one = super().__call__(picture)
        return Boxes(*(np.repeat(a, 2, 0) for a in (one.box, one.score, one.points, one.eyes)))


def test_best_only_gives_one_face(tmp_path: Path) -> None:
    from mien.serve.app import create_app

    two = Analyzer(Settings(threads=1, read_all=True), find=Two(), read=RedReader())
    app = create_app(settings(tmp_path), analyzer=two, run=False)
    with TestClient(app, base_url="http://127.0.0.1:8000") as web:
        counts = [
            len(web.post(f"/v1/analyze{q}", content=face(), headers=PNG).json()["pictures"][0]["faces"])
            for q in ("", "?best_only=false", "?best_only=true")
        ]
    assert counts == [2, 2, 1]


def test_what_is_included_only_when_asked_for(web: TestClient) -> None:
    plain_answer = web.post("/v1/analyze", content=face(), headers=PNG).json()
    assert (plain_answer["csv"], plain_answer["pictures"][0]["annotated"]) == (None, None)
    body = web.post("/v1/analyze?include=annotated,%20crops,csv", content=face(), headers=PNG).json()
    kind, _, data = body["pictures"][0]["annotated"].partition(",")
    assert kind == "data:image/jpeg;base64"
    drawn, crop = (
        cv2.imdecode(np.frombuffer(base64.b64decode(d), np.uint8), cv2.IMREAD_COLOR)
        for d in (data, body["pictures"][0]["faces"][0]["crop"])
    )
    assert drawn.shape == (120, 160, 3)
    assert crop.shape == (48, 48, 3)
    assert body["csv"].startswith("source,frame,time,face,x1")
    assert body["csv"].count("\n") == 2


def test_other_formats_hold_the_same_table(web: TestClient, tmp_path: Path) -> None:
    asked = form(face(), plain(), b"no picture", names=("a.png", "b.png", "c.png"))
    answers = {f: web.post(f"/v1/analyze?format={f}", files=asked) for f in ("csv", "jsonl", "parquet")}
    for ending in ("csv", "jsonl"):
        (tmp_path / f"faces.{ending}").write_bytes(answers[ending].content)
    tables = [read_faces(tmp_path / "faces.csv"), read_faces(tmp_path / "faces.jsonl")]
    tables.append(from_arrow(pq.read_table(io.BytesIO(answers["parquet"].content))))
    reader = fake_analyzer()
    direct = Faces.concat(
        [
            reader.picture(read_picture(face()), source="a.png"),
            Faces.missing("b.png", Reason.NO_FACE),
            Faces.missing("c.png", Reason.UNREADABLE),
        ]
    )
    assert all(table == direct for table in tables)
    assert answers["csv"].headers["content-disposition"] == 'attachment; filename="faces.csv"'
    kinds = [a.headers["content-type"] for a in answers.values()]
    assert kinds == ["text/csv; charset=utf-8", "application/x-ndjson", "application/vnd.apache.parquet"]


def test_jpeg_is_the_annotated_picture_of_one(web: TestClient) -> None:
    answer = web.post("/v1/analyze?format=jpeg", content=face(), headers=PNG)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert read_picture(answer.content).shape == (120, 160, 3)
    assert error(web.post("/v1/analyze?format=jpeg", files=form(face(), face()))) == (422, "option")


def test_nothing_is_read_before_a_purpose_is_declared(tmp_path: Path) -> None:
    with client(tmp_path, purpose=None) as web:
        assert error(web.post("/v1/analyze", content=face(), headers=PNG)) == (403, "purpose")


def test_a_face_of_no_clear_label_is_undecided(web: TestClient) -> None:
    shown = [
        web.post("/v1/analyze", content=face(red=r), headers=PNG).json()["pictures"][0]["faces"][0] for r in (200, 128)
    ]
    assert [f["undecided"] for f in shown] == [max(f["scores"].values()) < 0.5 for f in shown]
    unread = Faces.build(1, sources=("a",), face=0, reason=int(Reason.BLURRED))
    even = Faces.build(1, sources=("a",), face=0, expression=np.full(8, 0.125, np.float32))
    for faces, undecided in ((unread, None), (even, True)):
        record = picture_read("a", Found(faces, 1, 1, 0.0), crops=False, annotated=False)["faces"][0]
        assert record["undecided"] is undecided


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_hint(reason: Reason) -> None:
    face_or_none = -1 if reason in Reason.NO_FACE | Reason.UNREADABLE else 0
    words, hint = reasons_of(Faces.build(1, sources=("a",), face=face_or_none, reason=int(reason)))
    assert words == [reason.words]
    assert hint == HINTS[reason]


def test_a_busy_service_says_so_before_it_reads_the_body(tmp_path: Path) -> None:
    with client(tmp_path) as web:
        engine = web.app.state.service.engine  # type: ignore[attr-defined]  # it is a FastAPI application
        engine._pictures = 1000
        answer = web.post("/v1/analyze", content=b"not even a picture", headers=PNG)
    assert error(answer) == (429, "busy")
    assert int(answer.headers["retry-after"]) >= 1


# Over a real socket


def request_of(address: str, body: bytes) -> socket.socket:
    parts = urlsplit(address)
    assert parts.hostname is not None
    assert parts.port is not None
    sender = socket.create_connection((parts.hostname, parts.port), timeout=20)
    head = f"POST /v1/analyze HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: image/png\r\n"
    sender.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    return sender


def whole(sender: socket.socket) -> tuple[str, Any]:
    with sender:
        parts = b"".join(iter(lambda: sender.recv(65_536), b""))
    head, _, body = parts.partition(b"\r\n\r\n")
    return head.decode("latin-1").split(" ")[1], json.loads(body)


def test_a_client_that_goes_away_takes_its_pictures_out_of_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.serve.engine import Engine

    engines: list[Engine] = []
    make = Engine.__init__
    monkeypatch.setattr(Engine, "__init__", lambda self, *a, **k: (engines.append(self), make(self, *a, **k))[1])
    gate = Gate()
    slow = Analyzer(Settings(threads=1, read_all=True), find=gate, read=RedReader())

    def wait_for(waiting: int, running: int) -> None:
        until(lambda: (engines[0].load().waiting, engines[0].load().running) == (waiting, running))

    with running(settings(tmp_path, port=0, threads=1), analyzer=slow, run=False) as address:
        first = request_of(address, face())
        assert gate.entered.acquire(timeout=20)
        leaving, staying = request_of(address, face()), request_of(address, face(red=20))
        wait_for(2, 1)
        leaving.close()
        wait_for(1, 1)
        first.close()  # its work goes on in the thread and keeps its place
        wait_for(1, 1)
        gate.open.set()
        status, body = whole(staying)
        wait_for(0, 0)
    assert (status, body["pictures"][0]["faces"][0]["top"]) == ("200", "neutral")
    assert gate.calls == 2 + 2


def test_a_request_that_takes_too_long_is_answered_and_the_next_one_too(tmp_path: Path) -> None:
    gate = Gate()
    slow = Analyzer(Settings(threads=1, read_all=True), find=gate, read=RedReader())
    with running(settings(tmp_path, port=0, threads=1, limits={"seconds": 0.3}), analyzer=slow, run=False) as address:
        status, body = whole(request_of(address, face()))
        assert (status, body["error"]["code"]) == ("504", "timeout")
        gate.open.set()
        status, body = whole(request_of(address, face()))
        assert status == "200"


@pytest.mark.shared
def test_real_models_give_over_http_what_the_library_gives(tmp_path: Path, shared: Path) -> None:
    file = (shared / "pictures" / "multi_face.jpg").read_bytes()
    direct = Analyzer(Settings(threads=1)).picture(read_picture(file), source="picture")
    with running(settings(tmp_path, port=0, threads=2), run=False) as address:
        status, body = whole(request_of(address, file))
    assert status == "200"
    Analysis.model_validate(body)
    for shown, record in zip(body["pictures"][0]["faces"], direct[direct.found].records(), strict=True):
        scores = record["scores"]
        undecided = max(scores.values()) < 0.5 if scores else None
        assert shown == record | {"undecided": undecided, "crop": None}


def test_a_picture_longer_than_jpeg_can_be_is_drawn_smaller(tmp_path: Path) -> None:
    with client(tmp_path) as http:
        answer = http.post("/v1/analyze?format=jpeg", content=plain(width=70_000, height=20), headers=PNG)
        assert answer.status_code == 200
        assert read_picture(answer.content).shape == (18, 65_500, 3)
