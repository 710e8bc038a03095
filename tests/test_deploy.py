"""What `deploy/` holds, tried: the image's steps, the unit, nginx in front of a real server."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its types are another package
from dockerfile import ROOT, Step, environment, ignored, stages
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

DEPLOY = ROOT / "deploy"
STAGES = stages((DEPLOY / "Dockerfile").read_text())
LAST = STAGES[-1]


def one(word: str) -> Step:
    (step,) = [s for s in LAST if s.word == word]
    return step


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


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
    assert service["ports"] == [f"127.0.0.1:8000:{one('EXPOSE').rest}"]
    assert f"/run/secrets/{service['secrets'][0]['source']}" in one("ENTRYPOINT").listed
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()


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
