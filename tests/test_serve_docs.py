"""The page of the service: every command and program on it is run, every table on it is what the program says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from errorcodes import codes, job_codes
from films import make_film
from secured import secured
from serving import app, settings
from skimage import data

from mien.pipeline.analyzer import Analyzer, Settings
from mien.results.files import read_faces
from mien.serve.settings import Limits
from mien.serve.start import running
from mien.serve.tokens import Role, make_token

PAGE = Path(__file__).resolve().parents[1] / "docs" / "serve.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


# What is on the page is what the program says


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without the heads."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [[c.strip() for c in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("|")]
    return [row for row, before in zip(cells[2:], cells[1:], strict=False) if row[0].startswith("`") or before]


def documented() -> dict[str, str]:
    """What the docstring says of each limit."""
    described = str(Limits.__doc__).partition("----------\n")[2]
    found: dict[str, str] = {}
    for names, text in re.findall(r"^    (\w[\w, ]*)\n((?:        .*\n)+)", described, re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def told(name: str, value: float) -> str:
    """A default as a reader wants it."""
    if name.endswith("_bytes") or name == "least_rate":
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value % size == 0:
                return f"{value / size:g} {unit}"
    return f"{value:,.0f}"


def limits_table() -> str:
    described = documented()
    lines = ["| limit | default | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| `{f.name}` | {told(f.name, getattr(Limits(), f.name))} | {described[f.name]} |" for f in fields(Limits)
    ]
    return "\n".join(line.replace("``", "`") for line in lines)


def test_the_table_of_limits_is_that_of_the_program() -> None:
    assert limits_table() in TEXT, f"docs/serve.md should have this table:\n\n{limits_table()}"


def test_every_option_on_the_page_is_one_of_the_commands() -> None:
    command = [sys.executable, "-m", "mien"]
    known = "".join(
        subprocess.run([*command, name, "--help"], capture_output=True, text=True, check=True).stdout
        for name in ("serve", "token")
    )
    told_of = rows("What it can be told") + [[line] for line in re.findall(r"^\$ mien .*", TEXT, re.MULTILINE)]
    named = {option for row in told_of for option in re.findall(r"--[a-z-]+", row[0])}
    assert len(named) > 10
    assert [option for option in named if not re.search(rf"{option}\b", known)] == []


def test_every_code_of_an_error_is_on_the_page_and_no_other() -> None:
    listed = [code for row in rows("Errors") for code in re.findall(r"`(\w+)`", row[0])]
    assert sorted(listed) == sorted(set(listed))
    # The same code can be that of an answer and that of a job.
    assert set(listed) - codes() - job_codes() == set()
    assert (codes() | job_codes()) - set(listed) == set()


def test_every_route_is_on_the_page_and_no_other(tmp_path: Path) -> None:
    listed = {row[0].strip("`") for row in rows("Routes")}
    there = {
        f"{method.upper()} {path}" for path, methods in app(tmp_path).openapi()["paths"].items() for method in methods
    }
    assert there <= listed
    assert listed - there == {"WS /v1/stream", "GET /", "GET /v1/openapi.json"}


def test_every_role_on_the_page_is_what_the_route_asks_for(tmp_path: Path) -> None:
    """Each route is asked with a token of the role below the one that stands on the page, and with that one."""
    from fastapi.testclient import TestClient

    tokens = {role: make_token(role.name.lower(), role) for role in Role}
    file = tmp_path / "tokens.txt"
    file.write_text("\n".join(line for _, line in tokens.values()), encoding="utf-8")
    file.chmod(0o600)
    held = app(tmp_path / "state", token_file=file)
    with TestClient(held, base_url="http://127.0.0.1:8000") as asking:
        for route, role, *_ in rows("Routes"):
            method, path = route.strip("`").split(" ")
            if method == "WS":
                continue
            need = Role[role.upper()] if role else None
            for who in (None, *Role):
                headers = {"Authorization": f"Bearer {tokens[who][0]}"} if who else {}
                answer = asking.request(method, path.replace("{id}", "0" * 40).replace("{name}", "x"), headers=headers)
                refused = answer.status_code == 401 or (answer.status_code == 403 and "role" in answer.text)
                assert refused is (need is not None and (who is None or who < need)), (route, who, answer.text)


# Every command is run


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a block."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Ran]]]:
    """Run every block of the page, one after the other, in a folder with the files that it names."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    folder = tmp_path_factory.mktemp("page")
    for name, picture in pictures().items():
        cv2.imwrite(str(folder / name), picture[..., ::-1])
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    small = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    make_film(folder / "film.mp4", [np.roll(small, 2 * n, 1) for n in range(12)])
    token, line = make_token("anna", Role.USER)
    (folder / "tokens.txt").write_text(line, encoding="utf-8")
    (folder / "tokens.txt").chmod(0o600)
    # The film is read by another process, with the models that a user has; so are the pictures.
    reader = Analyzer(Settings(threads=1))
    with ExitStack() as servers:
        opened = settings(folder / "state", purpose=None, port=0)
        secure = settings(folder / "secure", token_file=folder / "tokens.txt")
        plain = servers.enter_context(running(opened, analyzer=reader))
        encrypted = servers.enter_context(secured(secure, reader))
        shutil.copy(folder / "secure" / "tls" / "certificate.pem", folder)
        addresses = {
            "https://127.0.0.1:8443": encrypted,
            "http://127.0.0.1:8000": plain,
            "ws://127.0.0.1:8000": plain.replace("http", "ws"),
        }
        yield folder, [run(*block, folder, addresses, token) for block in BLOCKS]


def pictures() -> dict[str, np.ndarray]:
    portrait = data.astronaut()[:320, 80:400]
    return {"portrait.jpg": portrait, "group.png": np.hstack([portrait, portrait[:, ::-1]])}


_BEFORE = """set -euo pipefail
curl() { command curl -sS --fail-with-body --noproxy '*' --max-time 120 "$@"; }
[ ! -f variables ] || . ./variables
"""
_AFTER = "\ndeclare -p JOB > variables 2> /dev/null || true\n"


def run(kind: str, block: str, folder: Path, addresses: dict[str, str], token: str) -> Ran:
    for shown, real in addresses.items():
        block = block.replace(shown, real)
    command = ["bash", "-c", _BEFORE + block + _AFTER] if kind == "sh" else [sys.executable, "-W", "error", "-c", block]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"TOKEN": token, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def objects(out: str) -> list[dict]:  # type: ignore[type-arg]  # JSON
    """JSON values that stand one behind the other, and whatever else stands between."""
    found, place = [], 0
    while (place := out.find("{", place)) >= 0:
        value, place = json.JSONDecoder().raw_decode(out, place)
        found.append(value)
    return found


def faces_of(out: str) -> list[list[str]]:
    """The label of each face of each picture."""
    (answer,) = objects(out)
    return [[face["top"] for face in picture["faces"]] for picture in answer["pictures"]]


def is_declared(out: str, folder: Path) -> None:
    assert objects(out)[0]["purpose"] == "development"


def is_one_happy_face(out: str, folder: Path) -> None:
    assert faces_of(out) == [["happy"]]


def is_as_on_the_page(out: str, folder: Path) -> None:
    is_one_happy_face(out, folder)
    (shown,) = [objects(b)[0] for b in re.findall(r"^```json\n(.*?)^```$", TEXT, re.S | re.M) if '"pictures"' in b]
    (answer,) = objects(out)
    assert shown.keys() == answer.keys()
    told, found = shown["pictures"][0], answer["pictures"][0]
    assert set(told) <= set(found)
    assert (told["name"], told["width"], told["height"]) == (found["name"], found["width"], found["height"])
    face, seen = told["faces"][0], found["faces"][0]
    assert set(face) - {"…"} <= set(seen)
    assert np.abs(np.subtract(face["box"], seen["box"])).max() < 2
    assert abs(face["scores"]["happy"] - seen["scores"]["happy"]) < 0.02


def is_three_pictures(out: str, folder: Path) -> None:
    assert faces_of(out) == [["happy"], ["happy", "happy"], []]
    assert [p["error"] and p["error"]["code"] for p in objects(out)[0]["pictures"]] == [None, None, "not_a_picture"]


def is_of_three_labels(out: str, folder: Path) -> None:
    is_one_happy_face(out, folder)
    assert objects(out)[0]["labels"] == ["negative", "happy", "neutral"]


def is_a_table(out: str, folder: Path) -> None:
    assert out.startswith("source,")
    assert read_faces(folder / "faces.csv").top.tolist() == ["happy"] * 3


def is_a_jpeg(out: str, folder: Path) -> None:
    drawn = cv2.imread(str(folder / "annotated.jpg"))
    assert drawn is not None
    assert "JPEG" in out or shutil.which("file") is None


def is_a_job(out: str, folder: Path) -> None:
    job = objects(out)[0]
    assert (job["state"], job["name"]) in {("waiting", "film.mp4"), ("running", "film.mp4")}
    assert (folder / "variables").read_text(encoding="utf-8").strip().endswith(f'JOB="/v1/jobs/{job["id"]}"')


def ends_well(out: str, folder: Path) -> None:
    assert re.findall(r"^event: (\w+)", out, re.MULTILINE)[-1] == "end"
    job = objects(out)[-1]
    assert (job["state"], job["error"], job["progress"]["fraction"]) == ("done", None, 1.0)


def is_listed(out: str, folder: Path) -> None:
    job, listed = objects(out)
    assert job["state"] == "done"
    assert job == listed["jobs"][0]


def are_results(out: str, folder: Path) -> None:
    table = read_faces(folder / "faces.csv")
    assert table == read_faces(folder / "faces.jsonl")
    assert table.frame.tolist() == [0, 5, 10]
    assert table.top.tolist() == ["happy"] * 3
    assert len(out) == 80
    assert (folder / "faces.csv").read_text(encoding="utf-8").startswith(out)
    for name in ("faces", "frames", "tracks"):
        assert (folder / f"{name}.parquet").read_bytes()[:4] == b"PAR1"
    assert json.loads((folder / "timeline.json").read_text(encoding="utf-8"))["tracks"][0]["label"] == "happy"
    assert (folder / "annotated.mp4").read_bytes()[4:8] == b"ftyp"


def says_nothing(out: str, folder: Path) -> None:
    assert out == ""


def tells_of_itself(out: str, folder: Path) -> None:
    assert '"ok"' in out
    assert '"ready"' in out
    assert "expression" in out
    assert "# HELP" in out


def is_what_the_client_prints(out: str, folder: Path) -> None:
    lines = out.splitlines()
    assert lines[0].startswith("['portrait.jpg' 'group.png' 'group.png'] ['happy' 'happy' 'happy']")
    assert lines[-2].startswith("done")
    assert "3 happy" in lines[-1]


def is_what_the_client_with_a_token_prints(out: str, folder: Path) -> None:
    first, second = out.splitlines()
    assert first == "{'status': 'ok'} ['happy']"
    assert second.startswith("401 token ")


def is_what_the_camera_prints(out: str, folder: Path) -> None:
    lines = out.splitlines()
    assert "happy" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]
    assert all(line.endswith("['happy']") for line in lines[1:])


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "/v1/policy": is_declared,
    "-F file=@portrait.jpg\n": is_as_on_the_page,
    "-F c=@notes.txt": is_three_pictures,
    "--data-binary": is_one_happy_face,
    "request.json": is_of_three_labels,
    "format=csv": is_a_table,
    "format=jpeg": is_a_jpeg,
    "job.json": is_a_job,
    "-N ": ends_well,
    "$JOB\ncurl": is_listed,
    "for name in": are_results,
    "-X DELETE": says_nothing,
    "/healthz": tells_of_itself,
    "--cacert": is_one_happy_face,
    "service.submit": is_what_the_client_prints,
    "verify=": is_what_the_client_with_a_token_prints,
    "websockets": is_what_the_camera_prints,
}


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[b.strip().splitlines()[-1][:50] for _, b in BLOCKS])
def test_what_stands_on_the_page_works(number: int, ran: tuple[Path, list[Ran]]) -> None:
    block = BLOCKS[number][1]
    folder, all_of_them = ran
    done = all_of_them[number]
    assert done.status == 0, f"{block}\n{done.out}\n{done.err}"
    assert done.err == ""
    checks = [check for part, check in CHECKS.items() if part in block]
    # The one block with a token asks the same as the first one; the longer key is the one that is meant.
    checks[-1](done.out, folder)


def test_every_check_belongs_to_a_block() -> None:
    assert [part for part in CHECKS if not any(part in block for _, block in BLOCKS)] == []
    assert len(BLOCKS) == len(CHECKS)
