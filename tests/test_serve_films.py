"""The routes of films, with real films, and a real server that is killed in the middle of its work."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from films import make_film, numbered
from serving import client, face
from skimage.data import astronaut

from mien.serve.films import Job, JobList


def until(holds: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Wait until something holds, and return it."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not (found := holds()):
        assert time.monotonic() < end, "it took too long"
        pause.wait(0.02)
    return found


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A second with one face that does not move."""
    picture = np.ascontiguousarray(astronaut()[:240, 100:340])
    return make_film(tmp_path_factory.mktemp("films") / "a.mp4", [picture] * 8, fps=8).read_bytes()


def ended(web: TestClient, job: str) -> Job:
    """Listen to a job until it ends, and return it as it then is."""
    with web.stream("GET", f"/v1/jobs/{job}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(told(response.iter_lines()))
    assert [kind for kind, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    assert events[-1][0] == "end"
    return events[-1][1]


def told(lines: Iterator[str]) -> Iterator[tuple[str, Job]]:
    """Read server-sent events."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, Job.model_validate_json(value)


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_a_film_from_the_form_to_its_results(tmp_path: Path, film: bytes) -> None:
    with client(tmp_path, run=True) as web:
        sent = web.post("/v1/films", files={"file": ("../../holiday.mp4", film, "video/mp4")}, data={"every": "2"})
        assert sent.status_code == 202
        job = Job.model_validate(sent.json())
        assert sent.headers["location"] == f"/v1/jobs/{job.id}"
        assert (job.state, job.name, job.results, job.expires) == ("waiting", "holiday.mp4", [], None)
        done = ended(web, job.id)
        assert Job.model_validate(web.get(f"/v1/jobs/{job.id}").json()) == done
        assert JobList.model_validate(web.get("/v1/jobs").json()).jobs == [done]
        assert (done.state, done.progress.frames, done.progress.fraction, done.error) == ("done", 4, 1.0, None)
        assert datetime.fromisoformat(done.ended or "") < datetime.fromisoformat(done.expires or "")
        names = [r.name for r in done.results]
        assert names[:3] == ["faces.csv", "faces.jsonl", "faces.parquet"]
        assert names[-1] == "annotated.mp4"
        for result in done.results:
            fetched = web.get(result.url)
            assert (fetched.status_code, len(fetched.content)) == (200, result.bytes)
            assert fetched.headers["content-type"] == result.media_type
            assert fetched.headers["content-disposition"] == f'attachment; filename="{result.name}"'
        with av.open(str(tmp_path / "films" / job.id / "results" / "annotated.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 8
        assert "holiday" not in " ".join(str(p) for p in tmp_path.rglob("*"))
        assert web.delete(f"/v1/jobs/{job.id}").status_code == 204
        assert web.get(f"/v1/jobs/{job.id}").status_code == 404
        assert web.get(done.results[0].url).status_code == 404
        assert files(tmp_path / "films") == []


def test_a_raw_body_and_options_in_the_address(tmp_path: Path, film: bytes) -> None:
    with client(tmp_path, run=True) as web:
        sent = web.post(
            "/v1/films?annotate=false&labels=three&fps=4", content=film, headers={"Content-Type": "video/mp4"}
        )
        done = ended(web, sent.json()["id"])
        timeline = web.get(f"/v1/jobs/{done.id}/results/timeline.json").json()
        assert (done.state, done.progress.total) == ("done", 4)
        assert timeline["labels"] == ["negative", "happy", "neutral"]
        missing = web.get(f"/v1/jobs/{done.id}/results/annotated.mp4")
        assert (missing.status_code, code(missing)) == (404, "no_result")


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=a-b", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("bytes=999999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_parts_of_a_result(finished: TestClient, header: str, status: int, body: slice | None) -> None:
    url = finished.get("/v1/jobs").json()["jobs"][0]["results"][0]["url"]
    whole = finished.get(url).content
    part = finished.get(url, headers={"Range": header})
    assert part.status_code == status
    if body is None:
        assert (code(part), part.headers["content-range"]) == ("range", f"bytes */{len(whole)}")
    else:
        assert part.content == whole[body]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, film: bytes) -> Iterator[TestClient]:
    """A service with one job that is done."""
    with client(tmp_path_factory.mktemp("state"), run=True) as web:
        ended(web, web.post("/v1/films?annotate=false", files={"file": ("a.mp4", film)}).json()["id"])
        yield web


# What is refused


@pytest.mark.parametrize(
    "options",
    [{"every": "0"}, {"every": "x"}, {"fps": "nan"}, {"fps": "-1"}, {"every": "2", "fps": "3"}, {"labels": "moods"}],
)
def test_options_that_cannot_be(tmp_path: Path, film: bytes, options: dict[str, str]) -> None:
    with client(tmp_path) as web:
        for request in ({"params": options}, {"data": options}):
            refused = web.post("/v1/films", files={"file": ("a.mp4", film)}, **request)
            assert refused.status_code == 422
            assert code(refused) in {"invalid", "option"}
        assert web.get("/v1/jobs").json() == {"jobs": []}
        assert list((tmp_path / "films").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [(face(), 415, "not_a_film"), (b"hello" * 2000, 415, "not_a_film"), (b"", 415, "empty")],
)
def test_what_is_no_film_leaves_nothing(tmp_path: Path, data: bytes, status: int, word: str) -> None:
    with client(tmp_path) as web:
        refused = web.post("/v1/films", files={"file": ("a.mp4", data, "video/mp4")})
        assert (refused.status_code, code(refused)) == (status, word)
        assert web.post("/v1/films", data={"every": "2"}).status_code in {415, 422}
        assert list((tmp_path / "films").iterdir()) == []


def test_too_many_and_too_large(tmp_path: Path, film: bytes) -> None:
    limits = {"jobs_each": 1, "film_bytes": len(film) + 1000}
    with client(tmp_path, limits=limits) as web:
        large = web.post("/v1/films", files={"file": ("a.mp4", film + bytes(2000))})
        assert (large.status_code, code(large)) == (413, "too_large")
        assert web.post("/v1/films", files={"file": ("a.mp4", film)}).status_code == 202
        more = web.post("/v1/films", files={"file": ("a.mp4", film)})
        assert (more.status_code, code(more), more.headers["retry-after"]) == (429, "jobs_each", "30")
    with client(tmp_path / "small", limits={"disk_bytes": 1000}) as web:
        full = web.post("/v1/films", files={"file": ("a.mp4", film)})
        assert (full.status_code, code(full)) == (507, "disk")


def test_without_a_purpose_nothing_is_read(tmp_path: Path, film: bytes) -> None:
    with client(tmp_path, purpose=None) as web:
        refused = web.post("/v1/films", files={"file": ("a.mp4", film)})
        assert (refused.status_code, code(refused)) == (403, "purpose")


def test_tokens_roles_and_jobs_of_others(tmp_path: Path, film: bytes) -> None:
    lines = [
        f"{n} {r} sha256:{hashlib.sha256(n.encode()).hexdigest()}"
        for n, r in (("anna", "user"), ("bert", "user"), ("eve", "viewer"), ("root", "admin"))
    ]
    (tmp_path / "tokens").write_text("\n".join(lines))
    (tmp_path / "tokens").chmod(0o600)

    def who(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {name}"}

    with client(tmp_path / "state", token_file=tmp_path / "tokens") as web:
        sent = {"files": {"file": ("a.mp4", film)}}
        assert web.post("/v1/films", **sent).status_code == 401
        assert web.post("/v1/films", **sent, headers=who("eve")).status_code == 403
        job = web.post("/v1/films", **sent, headers=who("anna")).json()["id"]
        for ask in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/results/faces.csv"):
            assert web.get(ask, headers=who("bert")).status_code == 404
            assert web.get(ask).status_code == 401
        assert web.delete(f"/v1/jobs/{job}", headers=who("bert")).status_code == 404
        assert web.get("/v1/jobs", headers=who("bert")).json() == {"jobs": []}
        assert [j["id"] for j in web.get("/v1/jobs", headers=who("root")).json()["jobs"]] == [job]
        assert web.get(f"/v1/jobs/{job}", headers=who("anna")).json()["state"] == "waiting"
        assert web.delete(f"/v1/jobs/{job}", headers=who("root")).status_code == 204


@pytest.mark.parametrize("job", ["0" * 40, "x", "..%2f..%2fetc", "0" * 41, "%00"])
def test_ids_that_are_none(tmp_path: Path, job: str) -> None:
    with client(tmp_path) as web:
        for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/results/faces.csv"):
            assert web.get(path).status_code in {404, 422}
        assert web.delete(f"/v1/jobs/{job}").status_code in {404, 422}
        assert web.get(f"/v1/jobs/{'0' * 40}/results/..%2ffilm").status_code in {404, 422}


def bomb(path: Path, side: int) -> bytes:
    """A film of one frame of side × side white pixels, packed to little."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(b"\0" + b"\xff" * (side // 8)) for _ in range(side)) + rows.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=1)
        stream.width = stream.height = 64  # what the container says; the picture says more
        stream.pix_fmt = "rgb24"
        out.start_encoding()
        packet = av.Packet(png)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        packet.time_base = stream.time_base
        out.mux(packet)
    return path.read_bytes()


def boast(path: Path, side: int) -> bytes:
    """A small film that says its frames are side × side pixels."""
    data = bytearray(make_film(path, numbered(2), codec="rawvideo", pixels="bgr24").read_bytes())
    place = data.index(b"strf") + 12  # of width and height, behind the name and the sizes of two headers
    data[place : place + 8] = side.to_bytes(4, "little") * 2
    return bytes(data)


@pytest.mark.parametrize("make", [bomb, boast])
def test_a_film_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, make: Callable[[Path, int], bytes]) -> None:
    data = make(tmp_path / ("a.mov" if make is bomb else "a.avi"), 16_000)
    assert len(data) < 100_000
    with client(tmp_path / "state", run=True) as web:
        done = ended(web, web.post("/v1/films", files={"file": ("a", data)}).json()["id"])
    assert (done.state, done.error and done.error.code, done.attempts) == ("failed", "too_large", 1)


def test_who_watches_hears_that_a_job_is_cancelled(tmp_path: Path, film: bytes) -> None:
    with client(tmp_path) as web:
        job = web.post("/v1/films", files={"file": ("a.mp4", film)}).json()["id"]
        heard: list[tuple[str, Job]] = []

        def listen() -> None:
            with web.stream("GET", f"/v1/jobs/{job}/events") as response:
                heard.extend(told(response.iter_lines()))

        listening = threading.Thread(target=listen)
        listening.start()
        assert web.delete(f"/v1/jobs/{job}").status_code == 204
        listening.join(20)
    assert heard == [] or (heard[-1][0], heard[-1][1].state) == ("end", "cancelled")


def test_the_document_tells_of_every_answer(tmp_path: Path) -> None:
    with client(tmp_path) as web:
        document = web.get("/v1/openapi.json").json()
    paths = {p: m for p, m in document["paths"].items() if p.startswith(("/v1/films", "/v1/jobs"))}
    assert sorted(f"{m} {p}" for p, methods in paths.items() for m in methods) == [
        "delete /v1/jobs/{id}",
        "get /v1/jobs",
        "get /v1/jobs/{id}",
        "get /v1/jobs/{id}/events",
        "get /v1/jobs/{id}/results/{name}",
        "post /v1/films",
    ]
    for methods in paths.values():
        for operation in methods.values():
            assert operation["operationId"]
            assert operation["tags"] == ["films"]
            assert {"401", "403", "422"} <= operation["responses"].keys()
    assert "multipart/form-data" in paths["/v1/films"]["post"]["requestBody"]["content"]


# A real server, killed


_SERVER = """
import json, sys
from pathlib import Path
import uvicorn
from mien.serve.app import create_app
from mien.serve.settings import Limits, ServeSettings
state, port = Path(sys.argv[1]), int(sys.argv[2])
app = create_app(ServeSettings(state=state, port=port, purpose="development", threads=1, limits=Limits(jobs_each=9)))
uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
"""


@contextmanager
def server(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A real server in a process of its own; whatever is left of it at the end is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(state), str(port)], env=os.environ)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as web:

            def up() -> bool:
                assert process.poll() is None, "the server ended"
                try:
                    return web.get("/healthz").status_code == 200
                except httpx.TransportError:
                    return False

            until(up)
            yield process, web
    finally:
        process.kill()
        process.wait()


def children(process: int) -> list[int]:
    """Processes whose parent this is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to find the children in")
def test_a_server_killed_in_the_middle_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    picture = np.ascontiguousarray(astronaut()[:240, 100:340])
    grey = numbered(450, width=240, height=240)
    frames = [picture if i % 3 else g for i, g in enumerate(grey)]
    data = make_film(tmp_path / "a.mp4", frames, fps=25).read_bytes()
    tables = ("faces.csv", "faces.parquet", "frames.parquet", "tracks.parquet", "timeline.json")

    def sent(web: httpx.Client) -> str:
        return str(web.post("/v1/films?annotate=false", files={"file": ("a.mp4", data)}).json()["id"])

    def done(web: httpx.Client, job: str) -> dict[str, Any]:
        return until(lambda: (j := web.get(f"/v1/jobs/{job}").json())["state"] in {"done", "failed"} and j)

    def fetched(web: httpx.Client, job: str) -> dict[str, bytes]:
        return {name: web.get(f"/v1/jobs/{job}/results/{name}").content for name in tables}

    with server(tmp_path / "state") as (process, web):
        job, waiting = sent(web), sent(web)
        until(lambda: web.get(f"/v1/jobs/{job}").json()["progress"]["frames"] > 260)
        (child,) = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not alive(child), 10)
    with server(tmp_path / "state") as (_, web):
        first, second = done(web, job), done(web, waiting)
        assert [(j["state"], j["attempts"]) for j in (first, second)] == [("done", 2), ("done", 1)]
        assert first["progress"]["frames"] == 450
        interrupted, whole = fetched(web, job), fetched(web, waiting)
    assert interrupted == whole
    assert len(json.loads(whole["timeline.json"])["tracks"]) > 0
