"""The commands `mien serve` and `mien token`, run as people run them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from http.client import HTTPSConnection
from pathlib import Path
from time import monotonic
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from mien.cli.app import app
from mien.errors import OptionError
from mien.serve import start
from mien.serve.purposes import PURPOSES
from mien.serve.tokens import Keyring, Role

PATIENCE = 60.0


class Service:
    """`mien serve` in a process of its own; what it says on stderr."""

    def __init__(self, *options: str, environ: dict[str, str] | None = None) -> None:
        own = {k: v for k, v in os.environ.items() if not k.startswith("MIEN_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mien", "serve", "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=own | {"OMP_NUM_THREADS": "1"} | (environ or {}),
        )
        self.lines: list[str] = []
        self.address = ""
        self._known = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._known.wait(PATIENCE)
        assert self.address, self.said

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if line.startswith("page"):
                self.address = line.split()[1]
            if line.startswith("Ctrl-C"):
                self._known.set()
        self._known.set()

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def get(self, path: str) -> bytes:
        with urlopen(f"{self.address}{path}", timeout=20) as answer:  # noqa: S310  # our own
            return answer.read()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.process.stderr.close()


@contextmanager
def service(state: Path, *options: str, environ: dict[str, str] | None = None) -> Iterator[Service]:
    with closing(Service("--state", str(state), *options, environ=environ)) as held:
        yield held


def eventually(holds: Callable[[], object]) -> None:
    """Look again and again, at most a minute."""
    until = monotonic() + PATIENCE
    pause = threading.Event()
    while not holds():
        assert monotonic() < until
        pause.wait(0.05)


def run(*arguments: str, environ: dict[str, str] | None = None):
    return CliRunner().invoke(app, list(arguments), env={"MIEN_TOKEN_FILE": "", "COLUMNS": "200"} | (environ or {}))


# A service that starts


def test_it_says_what_it_is_and_ends_in_order_with_sigterm(tmp_path):
    environ = {"MIEN_PURPOSE": "research", "MIEN_KEEP": "24h"}
    with service(tmp_path, "--keep", "15m", "--limit", "pixels=9M", environ=environ) as held:
        assert json.loads(held.get("/readyz"))["status"] == "ready"
        policy = json.loads(held.get("/v1/policy"))
        assert (policy["purpose"], policy["keep_seconds"]) == ("research", 900)
        assert "research" in held.said
        assert "15 minutes" in held.said
        assert "9 megapixels" in held.said
        assert "nobody is asked for one" in held.said
        assert held.end(signal.SIGTERM) == 0
        assert "Traceback" not in held.said


def test_ctrl_c_lets_an_answer_in_work_finish(tmp_path):
    with service(tmp_path, "--detector", "haar") as held:
        host, port = held.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as wire:
            wire.sendall(
                f"POST /v1/policy HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                "Content-Length: 30\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert wire.recv(1000).startswith(b"HTTP/1.1 100 ")
            held.process.send_signal(signal.SIGINT)
            eventually(lambda: refused(host, int(port)))
            wire.sendall(b'{"purpose": "film"}'.ljust(30))
            answer = b""
            while more := wire.recv(65536):
                answer += more
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert held.process.wait(PATIENCE) == 130
    assert "mien: stopped" in held.said
    assert "Traceback" not in held.said


def refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_https_and_tokens_and_a_log_as_json(tmp_path):
    file = tmp_path / "tokens.txt"
    made = run("token", "anna", "--role", "admin", "--file", str(file))
    token = made.stdout.split()[0]
    with service(tmp_path / "state", "--tls", "self-signed", "--token-file", str(file), "--log", "json") as held:
        assert held.address.startswith("https://127.0.0.1:")
        pem = (tmp_path / "state" / "tls" / "certificate.pem").read_text()
        assert re.search(r"SHA-256\s+([0-9A-F]{2}:){31}[0-9A-F]{2} ", held.said)
        shown = sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()
        assert shown in held.said
        assert "1 in the token file" in held.said
        host, port = held.address.removeprefix("https://").split(":")
        context = ssl.create_default_context(cadata=pem)
        wire = HTTPSConnection(host, int(port), context=context, timeout=20)
        for head, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
            wire.request("GET", "/v1/models", headers=head)
            answer = wire.getresponse()
            answer.read()
            assert answer.status == status
        wire.close()
        assert held.end(signal.SIGTERM) == 0
    after = held.lines[held.lines.index("Ctrl-C ends it.") + 1 :]
    assert all(json.loads(line)["level"] for line in after)
    assert token not in held.said


# Several processes


def children(of: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == of and b"spawn_main" in command:
                found.append(int(folder.name))
    return found


def alive(number: int) -> bool:
    try:
        return (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def counted(held: Service) -> float:
    text = held.get("/metrics").decode()
    return sum(
        s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == "mien_requests_total" and s.labels["route"] == "/healthz"
    )


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc who runs")
def test_two_workers_count_together_come_again_and_leave_with_their_parent(tmp_path):
    with service(tmp_path, "--workers", "2", "--detector", "haar") as held:
        first = children(held.process.pid)
        assert len(first) == 2
        for _ in range(30):
            held.get("/healthz")
        assert counted(held) == 30
        assert measured_memory(held) > 60e6

        os.kill(first[1], signal.SIGKILL)
        eventually(lambda: len(now := children(held.process.pid)) == 2 and first[1] not in now)
        eventually(lambda: answers(held))
        assert "worker" in held.said
        assert "died" in held.said
        # What the dead one had counted is not lost.
        before = counted(held)
        assert before >= 30
        held.get("/healthz")
        assert counted(held) == before + 1

        second = children(held.process.pid)
        os.kill(held.process.pid, signal.SIGKILL)
        held.process.wait(PATIENCE)
        eventually(lambda: not any(map(alive, second)))
        host, port = held.address.removeprefix("http://").split(":")
        eventually(lambda: free(host, int(port)))
    with service(tmp_path, "--workers", "2", "--detector", "haar") as held:
        assert json.loads(held.get("/healthz")) == {"status": "ok"}
        assert counted(held) == 1
        after = children(held.process.pid)
        assert held.end(signal.SIGINT) == 130
        assert not any(map(alive, after))
        assert "Traceback" not in held.said
    assert not (tmp_path / "measures").exists()


def measured_memory(held: Service) -> float:
    text = held.get("/metrics").decode()
    return float(re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)[1])


def free(host: str, port: int) -> bool:
    """The port can be taken; the threads of a process may outlive its first one by a moment."""
    try:
        start.bind(host, port).close()
    except OptionError:
        return False
    return True


def answers(held: Service) -> bool:
    try:
        return bool(held.get("/healthz"))
    except (URLError, ConnectionError):
        return False


# Starts that are refused


def one_line(result) -> str:
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mien: ")
    assert result.stdout == ""
    return lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "needs tokens"),  # noqa: S104  # refused
        (("--proxy",), "needs tokens"),
        (("--purpose", "mindreading"), "no such purpose"),
        (("--token-file", "missing.txt"), "missing.txt"),
        (("--tls", "missing.pem", "--tls-key", "missing.pem"), "not a certificate"),
        (("--tls", "cert.pem"), "--tls-key"),
        (("--limit", "pixels"), "limit 'pixels'"),
        (("--limit", "pixels=9M", "--limit", "waiting=none"), "limit waiting"),
        (("--keep", "a week"), "--keep: 'a week'"),
        (("--workers", "0"), "workers is 0"),
        (("--host", "192.0.2.5", "--token-file", "missing.txt"), "missing.txt"),
        (("--model", "mind"), "unknown model 'mind'"),
    ],
)
def test_what_cannot_be_started_is_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in one_line(run("serve", "--port", "0", "--state", str(tmp_path / "state"), *options))


def test_work_and_school_are_refused_with_the_reason(tmp_path):
    closed = [name for name, purpose in PURPOSES.items() if not purpose.allowed]
    assert closed
    for name in closed:
        line = one_line(run("serve", "--port", "0", "--state", str(tmp_path), environ={"MIEN_PURPOSE": name}))
        assert f"purpose {name!r}: " in line
        assert "no such purpose" not in line


def test_a_port_and_a_state_in_use_are_one_line(tmp_path):
    with closing(start.bind("127.0.0.1", 0)) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in one_line(run("serve", "--port", port, "--state", str(tmp_path / "state")))
    with start.held(tmp_path / "state"):
        assert "another service" in one_line(run("serve", "--port", "0", "--state", str(tmp_path / "state")))
    (tmp_path / "file").touch()
    assert "--state" in one_line(run("serve", "--port", "0", "--state", str(tmp_path / "file" / "state")))


def test_several_workers_that_cannot_start_say_why(tmp_path):
    line = one_line(run("serve", "--port", "0", "--workers", "2", "--model", "mind", "--state", str(tmp_path)))
    assert "unknown model 'mind'" in line


def test_without_the_extra_only_serve_is_missing(tmp_path):
    code = (
        "import sys\n"
        "for name in ('fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'segno', 'sqlalchemy', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "from mien.cli.app import run\n"
        "sys.argv = ['mien', *sys.argv[1:]]\n"
        "run()\n"
    )

    def mien(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE
        )

    helped = mien("--help")
    assert helped.returncode == 0
    assert " serve " in helped.stdout
    for words in (("serve", "--help"), ("token", "--help")):
        assert mien(*words).returncode == 0
    refused_ = mien("serve", "--state", "state")
    assert refused_.returncode == 2
    assert refused_.stderr == "mien: this needs fastapi, which is not installed; run: pip install 'mien[serve]'\n"
    assert not (tmp_path / "state").exists()


# Tokens


def test_a_token_is_printed_once_and_its_hash_added(tmp_path):
    file = tmp_path / "tokens.txt"
    first = run("token", "anna", "--rate", "60", "--file", str(file))
    second = run("token", "door", "--role", "viewer", "--file", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tokens = [first.stdout.strip(), second.stdout.strip()]
    text = file.read_text()
    assert not any(token in text for token in tokens)
    keys = Keyring.load(file)
    found = [keys.caller(token) for token in tokens]
    assert [(c.name, c.role, c.rate) for c in found] == [("anna", Role.USER, 60.0), ("door", Role.VIEWER, None)]
    assert "shown only now" in first.stderr


def test_a_line_goes_below_a_last_line_without_an_end(tmp_path):
    file = tmp_path / "tokens.txt"
    file.write_text("# ours")
    file.chmod(0o600)
    assert run("token", "anna", "--file", str(file)).exit_code == 0
    assert file.read_text().splitlines()[0] == "# ours"
    assert Keyring.load(file).count == 1


def test_without_a_file_the_line_is_printed(tmp_path):
    token, line = run("token", "anna", "--role", "admin").stdout.splitlines()
    (tmp_path / "tokens.txt").write_text(line)
    (tmp_path / "tokens.txt").chmod(0o600)
    assert Keyring.load(tmp_path / "tokens.txt").caller(token).role is Role.ADMIN


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("an na",), "name 'an na'"),
        (("anna", "--rate", "0"), "rate is 0"),
        (("anna", "--file", "no/such/folder/t.txt"), "cannot be written"),
    ],
)
def test_a_token_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in one_line(run("token", *words))
