"""What `deploy/` holds, tried: the image's steps, the unit, nginx in front of a real server."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import proxy
import pytest
import yaml  # type: ignore[import-untyped]  # its types are another package
from dockerfile import ROOT, Build, Step, context, environment, ignored, stages
from fakes import scene
from films import make_film
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from serving import face, fake_analyzer, settings
from websockets.sync.client import connect
from websockets.typing import Origin

from mien.serve import process
from mien.serve.problem import ProblemBody
from mien.serve.settings import Limits
from mien.serve.start import running
from mien.serve.tokens import Role, make_token

DEPLOY = ROOT / "deploy"
STAGES = stages((DEPLOY / "Dockerfile").read_text())
LAST = STAGES[-1]
TOKEN, LINE = make_token("anna", Role.USER)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PNG = {"Content-Type": "image/png"}


def one(word: str) -> Step:
    (step,) = [s for s in LAST if s.word == word]
    return step


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


# The image


def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    done = lint(DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text((DEPLOY / "Dockerfile").read_text().replace(":3.13-slim-bookworm", ""))
    assert "DL3006" in lint(worse).stdout, "it looks"


def test_the_image_runs_as_nobody_and_says_how_it_is() -> None:
    assert one("USER").rest == "10001:10001"
    assert one("STOPSIGNAL").rest == "SIGTERM"
    assert one("EXPOSE").rest == "8000"
    assert one("VOLUME").rest == environment(LAST)["MIEN_STATE"]
    order = [s.word for s in LAST]
    assert order.index("USER") > max(n for n, word in enumerate(order) if word == "RUN")
    assert "curl" not in (DEPLOY / "Dockerfile").read_text()
    assert [s.rest.split()[0] for stage in STAGES for s in stage if s.word == "FROM"] == [
        "python:3.13-slim-bookworm"
    ] * 2


def test_the_requirements_are_all_that_the_service_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (DEPLOY / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    held = {canonicalize_name(n): Version(v) for n, v in (line.split("==") for line in lines)}
    asked = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["serve"]]
    wrong = [str(r) for r in asked if not r.specifier.contains(held.get(canonicalize_name(r.name), Version("0")))]
    assert wrong == []


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("src/mien/serve/app.py", False),
        ("src/mien/serve/__pycache__/app.cpython-311.pyc", True),
        ("pyproject.toml", False),
        ("deploy/requirements.txt", False),
        ("deploy/tokens", True),
        (".git/config", True),
        ("tests/fakes.py", True),
        ("tokens.txt", True),
    ],
)
def test_the_builder_sees_what_it_needs_and_no_secret(path: str, out: bool) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored(path, lines) is out


def test_compose_starts_the_same_image_locked_down() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["mien"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == [f"state:{one('VOLUME').rest}"]
    assert service["command"][:2] == ["--host", "127.0.0.1"], "the later option counts"
    assert f"/run/secrets/{service['secrets'][0]['source']}" in one("ENTRYPOINT").listed
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("image")
    asked = ["git", "-C", str(ROOT), "ls-files"] if (ROOT / ".git").exists() else ["true"]
    files = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    here = files or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and p.parts[-2] != "__pycache__"]
    build = Build(context(ROOT, here, folder / "sent"), folder / "image")
    for steps in STAGES:
        build.carry_out(steps)
    return build


def test_the_steps_make_an_installation_of_what_was_sent(built: Build) -> None:
    assert {p.name for p in built.sent.iterdir()} == {"LICENSE", "README.md", "deploy", "pyproject.toml", "src"}
    place = built.root / "opt" / "mien"
    (package,) = place.glob("lib/python3*/site-packages/mien")
    sent = {str(p.relative_to(built.sent / "src" / "mien")) for p in (built.sent / "src" / "mien").rglob("*.*")}
    assert sent - {str(p.relative_to(package)) for p in package.rglob("*.*")} == set()
    assert (place / "bin" / "mien").exists()
    assert not (place / "bin" / "pip").exists()
    assert len(built.left_out) == 2, "the user, the download"


def test_the_image_starts_is_healthy_and_stops(built: Build, tmp_path: Path) -> None:
    place, port = built.root / "opt" / "mien", str(proxy.free_port())
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    (tmp_path / "tokens").write_text(f"{LINE}\n")

    def here(text: str) -> str:
        return built.placed(text.replace("8000", port).replace("/run/secrets/mien-tokens", str(tmp_path / "tokens")))

    (tmp_path / "tmp").mkdir()
    environ = {k: here(v) for k, v in environment(LAST).items()} | {"TMPDIR": str(tmp_path / "tmp")}
    environ |= {"PATH": environ["PATH"].replace("$PATH", os.environ["PATH"]), "HOME": environ["MIEN_STATE"]}
    start = [here(word) for word in one("ENTRYPOINT").listed]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen([*start, "--purpose", "development"], env=environ, stdout=log, stderr=log)
    try:
        check = [here(word) for word in one("HEALTHCHECK").listed]
        until = time.monotonic() + 60
        while subprocess.run(check, env=environ, capture_output=True, check=False).returncode:
            assert running.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
        held = http.client.HTTPConnection("127.0.0.1", int(port))
        assert proxy.answered(held, "POST", "/v1/analyze", face()).status == 401
        held.close()
        held = http.client.HTTPConnection("127.0.0.1", int(port))
        assert proxy.answered(held, "POST", "/v1/analyze", face(), headers=BEARER | PNG).status == 200
        held.close()
        running.send_signal(signal.Signals[one("STOPSIGNAL").rest])
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
    assert subprocess.run(check, env=environ, capture_output=True, check=False).returncode == 1, "it is gone"
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before, "nothing is written but the state"
    assert list((tmp_path / "tmp").rglob("*")) == []


# The unit


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "mien.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    path = tmp_path / "mien.service"
    path.write_text((DEPLOY / "mien.service").read_text().replace("/opt/mien/bin/mien", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    asked = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60).stdout
    level = float(re.findall(r"exposure level for mien.service: ([\d.]+)", told)[0])
    assert level <= 1.2, told


def test_the_unit_keeps_its_token_and_its_state_to_itself() -> None:
    said = unit()
    (command,) = said["ExecStart"]
    assert "--token-file %d/tokens" in command
    assert said["LoadCredential"] == ["tokens:/etc/mien/tokens"]
    assert said["StateDirectory"] == ["mien"]
    assert "MIEN_STATE=%S/mien" in said["Environment"]


# nginx

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
BYTES = {"k": 1024, "m": 1024**2, "g": 1024**3}


def said(name: str, *, place: str = "") -> list[str]:
    """The values of a directive of the snippet, in all of it or in one location."""
    text = proxy.SNIPPET.read_text()
    if place:
        (text,) = re.findall(rf"location = {re.escape(place)} {{(.*?)}}", text, re.DOTALL)
    return re.findall(rf"^\s*{name}\s+(.*);", text, re.MULTILINE)


def test_the_limits_of_nginx_are_those_of_the_service() -> None:
    limits = Limits()
    for place, most in (("/v1/films", limits.film_bytes), ("/v1/analyze", limits.body_bytes)):
        (size,) = said("client_max_body_size", place=place)
        assert int(size[:-1]) * BYTES[size[-1]] == most
    assert said("client_body_timeout") == [f"{limits.idle_seconds:g}s"]
    assert float(said("proxy_read_timeout")[0][:-1]) > limits.seconds
    assert int(said("keepalive_timeout")[0][:-1]) < process._KEEP_ALIVE, "nginx lets go of a connection first"
    count, size = said("large_client_header_buffers")[0].split()
    assert int(count) * int(size[:-1]) * 1024 <= process._HEAD_BYTES


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[proxy.Front]:
    folder = tmp_path_factory.mktemp("front")
    (folder / "tokens").write_text(f"{LINE}\n")
    told = settings(folder / "state", port=0, proxy=True, origin="https://faces.example", token_file=folder / "tokens")
    with (
        running(told, analyzer=fake_analyzer()) as address,
        proxy.nginx(folder, int(address.rpartition(":")[2])) as out,
    ):
        yield out


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[proxy.Front, proxy.Echo]]:
    with proxy.Echo() as behind, proxy.nginx(tmp_path_factory.mktemp("echo"), behind.server_port) as out:
        yield out, behind


@needs_nginx
def test_the_page_comes_through(front: proxy.Front) -> None:
    page = front.ask("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src" in page.headers["content-security-policy"]
    assert page.headers["server"] == "nginx", "without its version"


@needs_nginx
def test_http_leads_to_https(front: proxy.Front) -> None:
    held = http.client.HTTPConnection("127.0.0.1", front.plain)
    came = proxy.answered(held, "GET", "/notice?lang=en", headers={"Host": proxy.NAME})
    held.close()
    assert (came.status, came.headers["location"]) == (308, "https://faces.example/notice?lang=en")


@needs_nginx
def test_who_calls_by_another_name_is_turned_away(front: proxy.Front) -> None:
    for host in ("evil.example", "127.0.0.1", "localhost:8000"):
        came = front.ask("GET", "/", headers={"Host": host})
        assert came.status == 421
        assert came.json()["error"]["code"] == "host"


@needs_nginx
def test_pictures_need_a_token(front: proxy.Front) -> None:
    assert front.ask("POST", "/v1/analyze", face()).status == 401
    assert front.ask("POST", "/v1/analyze", face(), headers={"Authorization": "Bearer no"}).status == 401
    came = front.ask("POST", "/v1/analyze", face(), headers=BEARER | PNG | {"Origin": "https://faces.example"})
    assert came.status == 200, came.body
    assert came.json()["pictures"][0]["faces"][0]["top"] == "happy"
    foreign = front.ask("POST", "/v1/analyze", face(), headers=BEARER | PNG | {"Origin": "https://evil.example"})
    assert foreign.status == 403


@needs_nginx
@pytest.mark.parametrize(("path", "most"), [("/v1/analyze", 32), ("/v1/films", 2048), ("/v1/policy", 1 / 16)])
def test_a_body_that_is_too_large_is_refused_before_it_comes(front: proxy.Front, path: str, most: float) -> None:
    size = str(int(most * 1024**2) + 1)
    came = front.ask(
        "POST", path, headers=BEARER | {"Content-Length": size, "Content-Type": "application/octet-stream"}
    )
    assert came.status == 413
    assert came.json()["error"]["code"] == "too_large"


@needs_nginx
def test_a_film_is_told_of_as_it_goes_on(front: proxy.Front, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", [scene(x) for x in range(10, 90, 4)]).read_bytes()
    job = front.ask("POST", "/v1/films?annotate=no", film, headers=BEARER | {"Content-Type": "video/mp4"})
    assert job.status == 202, job.body
    place = job.headers["location"]
    held = front.connection()
    held.request("GET", f"{place}/events", headers=BEARER)
    came = held.getresponse()
    assert came.headers["content-type"].startswith("text/event-stream")
    first, *rest = events(came)
    held.close()
    assert first[1]["state"] in {"waiting", "running"}, "told before the end"
    assert rest[-1][0] == "end"
    assert rest[-1][1]["state"] == "done", rest[-1]
    assert rest[-1][2] > first[2] + 0.2, "one by one, not all at the end"
    table = front.ask("GET", f"{place}/results/faces.csv", headers=BEARER)
    assert len(table.body.splitlines()) == 21
    assert front.ask("DELETE", place, headers=BEARER).status == 204
    assert [p for name in ("body", "proxy") for p in (front.folder / name).rglob("*") if p.is_file()] == []


def events(came: http.client.HTTPResponse) -> list[tuple[str, dict[str, Any], float]]:
    """The server-sent events of an answer, each with the time at which it came."""
    found, kind = [], ""
    while line := came.readline().decode().rstrip("\n"):
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((kind, json.loads(line.removeprefix("data: ")), time.monotonic()))
            came.readline()
    return found


@needs_nginx
def test_a_camera_comes_through(front: proxy.Front) -> None:
    plain = socket.create_connection(("127.0.0.1", front.port), timeout=60)
    with connect(
        f"wss://{proxy.NAME}/v1/stream", sock=plain, ssl=front.trust, origin=Origin("https://faces.example")
    ) as camera:
        camera.send(json.dumps({"token": TOKEN}))
        assert json.loads(camera.recv(timeout=30))["type"] == "ready"
        camera.send(face())
        told = json.loads(camera.recv(timeout=30))
        assert (told["type"], told["frame"], len(told["faces"])) == ("faces", 0, 1)


@needs_nginx
def test_the_measures_are_for_this_machine(front: proxy.Front) -> None:
    came = front.ask("GET", "/metrics", headers=BEARER)
    assert (came.status, came.json()["error"]["code"]) == (404, "not_found")


@needs_nginx
def test_mien_is_told_who_asks_by_nginx_alone(echo: tuple[proxy.Front, proxy.Echo]) -> None:
    lies = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Forwarded-Host": "evil",
    }
    told = echo[0].ask("GET", "/healthz", headers=lies | {"X-Forwarded-Proto": "gopher"}).json()["headers"]
    assert "6.6.6.6" not in str(told)
    assert "evil" not in str(told)
    assert [v for k, v in told if k.startswith("x-forwarded")] == ["127.0.0.1", "https"]
    assert ["host", "faces.example"] in told


@needs_nginx
def test_a_film_is_handed_on_while_it_comes(echo: tuple[proxy.Front, proxy.Echo]) -> None:
    out, behind = echo
    behind.first.clear()
    held = out.connection()
    held.putrequest("POST", "/v1/films")
    held.putheader("Content-Length", "100000")
    held.endheaders()
    held.send(b"x" * 1000)
    assert behind.first.wait(20), "mien has the beginning before the client sent the end"
    held.send(b"x" * 99_000)
    assert held.getresponse().status == 200
    held.close()
    assert [p for p in (out.folder / "body").rglob("*") if p.is_file()] == []


@needs_nginx
def test_one_address_can_only_ask_so_often(tmp_path: Path) -> None:
    def many(out: proxy.Front) -> list[proxy.Answer]:
        held = out.connection()
        try:
            return [proxy.answered(held, "GET", "/") for _ in range(40)]
        finally:
            held.close()

    with proxy.Echo() as behind, proxy.nginx(tmp_path, behind.server_port) as out, ThreadPoolExecutor(4) as pool:
        answers = [a for part in pool.map(many, [out] * 4) for a in part]
    late = [a for a in answers if a.status == 429]
    assert {a.status for a in answers} == {200, 429}
    assert len(answers) - len(late) >= 61, "the burst"
    assert (late[0].headers["retry-after"], late[0].json()["error"]["code"]) == ("1", "rate")


@needs_nginx
def test_a_service_that_is_not_there_is_told_in_the_one_shape(tmp_path: Path) -> None:
    with proxy.nginx(tmp_path, proxy.free_port()) as out:
        came = out.ask("GET", "/")
    assert (came.status, came.headers["retry-after"]) == (503, "5")
    ProblemBody.model_validate(came.json())
