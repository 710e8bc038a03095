"""Try on a running service what a stranger would try; print each attack, its answer and how long it took.

    python benchmarks/serve_attacks.py

The service is `mien serve` in a process of its own, with small limits so that it does not take long; its memory, what
it leaves on the disk and whether it still reads a picture are looked at in the end. Exit code 1: an attack was answered
otherwise than it should be. `tests/test_serve_attacks.py` tries the same.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stranger import (
    GIF_JS,
    HTML,
    PLAYLIST,
    SVG,
    XXE,
    ZIP,
    Answer,
    Service,
    Tries,
    ask,
    asked,
    chunked,
    formed,
    gif,
    got,
    guessing,
    head,
    jpeg_header,
    png,
    portrait,
    post,
    posted,
    raw,
    redirected,
    send,
    slow_body,
    slow_head,
    socket_from,
)  # fmt: skip

BODY_BYTES = 2_000_000
FILM_BYTES = 3_000_000
LIMITS = {"body_bytes": BODY_BYTES, "film_bytes": FILM_BYTES, "idle_seconds": 1.0}


@dataclass(frozen=True)
class Attack:
    """One thing to try.

    Attributes
    ----------
    kind, name
        What it is.
    tries
        Does it.
    expected
        Each a status, or a status and a code, that is right.
    """

    kind: str
    name: str
    tries: Tries
    expected: tuple[str, ...]

    def held(self, answer: Answer) -> bool:
        """Tell whether it was answered as it should be."""
        fits = any(f"{answer.shown} ".startswith(f"{e} ") for e in self.expected)
        return fits and "set-cookie" not in answer.head.lower() and b"root:" not in answer.body


def attacks() -> list[Attack]:
    """Return all of them; that which gets this address turned away comes last."""
    tables = {
        "file name": _names(), "bomb": _bombs(), "polyglot": _polyglots(), "kind": _kinds(), "size": _sizes(),
        "JSON": _json(), "slow": _slow(), "smuggling": _smuggling(), "foreign page": _pages(), "name": _hosts(),
        "method": _methods(), "header": _headers(), "address": _addresses(), "path": _paths(), "token": _tokens(),
    }  # fmt: skip
    return [
        Attack(kind, name, tries, expected if isinstance(expected, tuple) else (expected,))
        for kind, table in tables.items()
        for name, (tries, expected) in table.items()
    ]


Table = dict[str, tuple[Tries, str | tuple[str, ...]]]


def _names() -> Table:
    def part(how: str) -> Tries:
        return formed((f'name="file"; filename={how}', portrait()))

    return {
        "../../../etc/cron.d/x": (part('"../../../etc/cron.d/x"'), "200"),
        "backslashes and NUL": (part('"..\\..\\a\0.jpg"'), "200"),
        "an encoded line break": (part('"a%0d%0aSet-Cookie: x=1.jpg"'), "200"),
        "a line break": (part('"a\r\nSet-Cookie: x=1"'), ("200", "400 form")),
        "a name of 10,000 characters": (part(f'"{"a" * 10_000}"'), "400 form"),
    }


def _bombs() -> Table:
    wide = "413 too_many_pixels"
    zeros = gzip.compress(bytes(50_000_000))
    many = [('name="f"; filename="a"', png(6200, 6200))] * 16
    return {
        "PNG of 50,000 × 50,000 (300 KB)": (posted(png(50_000, 50_000)), wide),
        "GIF with a canvas of 65,535 × 65,535": (posted(gif()), wide),
        "JPEG that says 65,000 × 65,000": (posted(jpeg_header(65_000, 65_000)), wide),
        "16 PNGs of 38 megapixels (5 KB each)": (formed(*many), ("200", "429", "503", "504")),
        "50 MB of zeros, Content-Encoding: gzip": (
            posted(zeros, "image/jpeg", "/v1/analyze", "Content-Encoding: gzip"),
            "415 encoded",
        ),
        "zip": (posted(ZIP), "415 not_a_picture"),
    }


def _polyglots() -> Table:
    good = portrait()
    begun = b"\0\0\0\x18ftypisom" + HTML
    return {
        "JPEG, then HTML (read as JPEG)": (posted(good + HTML), "200"),
        "HTML, then JPEG": (posted(HTML + good), "415 not_a_picture"),
        "JPEG, then zip (read as JPEG)": (posted(good + ZIP), "200"),
        "GIF that is JavaScript": (posted(GIF_JS), ("415 not_readable", "413 too_many_pixels")),
        "MP4 head, then HTML (the job fails)": (posted(begun, "video/mp4", "/v1/films"), ("202", "415", "422")),
    }


def _kinds() -> Table:
    no_picture, no_film = "415 not_a_picture", "415 not_a_film"
    return {
        "SVG with a script": (posted(SVG, "image/svg+xml"), no_picture),
        "XML with an outer entity": (posted(XXE), no_picture),
        "HTML called image/jpeg": (posted(HTML), no_picture),
        "playlist of local files": (posted(PLAYLIST, "video/mp4", "/v1/films"), no_film),
        "picture as a film": (posted(portrait(), "video/mp4", "/v1/films"), no_film),
    }


def _sizes() -> Table:
    large = "413 too_large"
    film = b"\0\0\0\x18ftypisom" + bytes(FILM_BYTES)
    files = [('name="a"; filename="a"', portrait())] * 17
    claim = "Content-Length: 10000000000"
    return {
        "a header of 100 KB": (got("/healthz", f"X: {'y' * 100_000}"), "431 head_too_large"),
        "1,000 headers": (got("/healthz", *[f"X{n}: y" for n in range(1000)]), "431 head_too_large"),
        "an address of 9 KB": (got(f"/healthz?{'a' * 9000}"), "414 address_too_long"),
        "a body over the limit": (posted(b"\xff\xd8\xff" + bytes(BODY_BYTES)), large),
        "a body that says 10 GB": (asked("POST", "/v1/analyze", "Content-Type: image/jpeg", claim), large),
        "a body without a length": (partial(chunked, size=5 * BODY_BYTES), large),
        "a film over the limit": (posted(film, "video/mp4", "/v1/films"), large),
        "10 MB to a route that takes little": (partial(chunked, size=10_000_000, target="/v1/policy"), large),
        "10,000 parts": (formed(*[('name="a"', b"1")] * 10_000), "413 too_many"),
        "17 pictures": (formed(*files), "413 too_many"),
        "a part with a head of 100 KB": (formed((f'name="{"a" * 100_000}"', b"1")), "400 form"),
    }


def _json() -> Table:
    def json_of(body: bytes) -> Tries:
        return posted(b'{"pictures": ' + body + b"}", "application/json")

    return {
        "100,000 deep": (json_of(b"[" * 100_000 + b"]" * 100_000), "422 json"),
        "4,000 deep": (json_of(b"[" * 4000 + b"]" * 4000), "400 json"),
        "500,000 lists": (json_of(b"[" + b"[]," * 500_000 + b"[]]"), "422 json"),
        "a number of 100,000 digits": (json_of(b"9" * 100_000), "400 json"),
        "half a surrogate pair as a name": (json_of(b'[{"name": "\\ud800", "data": "AAAA"}]'), "415 not_a_picture"),
        "deep, to a route of its own": (
            posted(b"[" * 30_000 + b"]" * 30_000, "application/json", "/v1/policy"),
            ("400", "422"),
        ),
    }


def _slow() -> Table:
    return {
        "a head, a line every 0.2 s": (partial(slow_head, pause=0.2), "408 head_too_slow"),
        "no head at all": (raw(30.0), "408 head_too_slow"),
        "a body that stops": (partial(slow_body, piece=b"", pause=30.0), "408 too_slow"),
        "a body, a byte every 0.2 s": (partial(slow_body, piece=b"x", pause=0.2), "408 too_slow"),
    }


def _smuggling() -> Table:
    def begun(*lines: str) -> Tries:
        return lambda s: send(s, [head(s, "POST", "/v1/analyze", "Content-Type: image/png", *lines), b"0\r\n\r\n"])

    return {
        "two lengths": (begun("Content-Length: 5", "Content-Length: 6"), "400"),
        "a length and chunks": (begun("Content-Length: 5", "Transfer-Encoding: chunked"), "400 length"),
        "chunks by another name": (begun("Transfer-Encoding: xchunked"), ("400", "501")),
        "TLS on the plain port": (raw(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n\r\n"), "400 not_http"),
    }


def _pages() -> Table:
    foreign, refused = "Origin: http://evil.example", "403 foreign_page"
    purpose = b'{"purpose": "development"}'

    def sneaked(*lines: str) -> Tries:
        return posted(portrait(), "image/jpeg", "/v1/analyze", *lines)

    return {
        "picture posted by another site": (sneaked(foreign), refused),
        "the same from a sandboxed frame": (sneaked("Origin: null"), refused),
        "the same without Origin": (sneaked("Sec-Fetch-Site: cross-site"), refused),
        "purpose declared by another site's form": (posted(purpose, "text/plain", "/v1/policy", foreign), refused),
        "preflight of another site": (
            asked("OPTIONS", "/v1/analyze", foreign, "Access-Control-Request-Method: POST"),
            "405",
        ),
        "answer embedded in another site": (
            got("/v1/models", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
            refused,
        ),
        "web socket from another site": (partial(socket_from, lines=(foreign,)), refused),
    }


def _hosts() -> Table:
    evil = ("Host: evil.example", "Origin: http://evil.example")
    return {
        "DNS rebinding: another Host": (got("/healthz", "Host: evil.example"), "421 unknown_host"),
        "DNS rebinding of a web socket": (partial(socket_from, lines=evil), "421 unknown_host"),
        "two Hosts": (got("/healthz", "Host: 127.0.0.1:{port}", "Host: evil.example"), "400"),
        "no Host": (raw(b"GET /healthz HTTP/1.1\r\n\r\n"), "400"),
        "another Host in the target": (got("http://evil.example/"), ("404", "421")),
    }


def _methods() -> Table:
    connect = raw(b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return {
        "TRACE": (asked("TRACE", "/v1/models"), "405"),
        "HOLIDAY": (asked("HOLIDAY", "/v1/models"), "405"),
        "GET, overridden by a header": (got("/v1/jobs", "X-HTTP-Method-Override: DELETE"), "200"),
        "DELETE of all jobs": (asked("DELETE", "/v1/jobs"), "405"),
        "CONNECT": (connect, ("400", "404", "405")),
    }


def _headers() -> Table:
    cookie = "%0d%0aSet-Cookie:%20x=1"
    return {
        "line break in the query": (got(f"/v1/models?a={cookie}"), "200"),
        "line break in the path": (got(f"/web/{cookie}"), "404"),
        "line break in an option": (posted(portrait(), "image/jpeg", f"/v1/analyze?labels=a{cookie}"), "422"),
        "NUL in a header": (got("/healthz", "X: a\0b"), "400 not_http"),
    }


def _addresses() -> Table:
    def to(url: str) -> Tries:
        return lambda s: post(
            s, json.dumps({"pictures": [{"url": url.replace("{port}", str(s.port))}]}).encode(), _JSON
        )

    inside = (
        "http://127.0.0.1/a.jpg", "http://127.0.0.1:{port}/healthz", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://0/", "https://localhost/",
        "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://[64:ff9b::7f00:1]/", "http://1.1.1.1:6379/",
    )  # fmt: skip
    odd = (
        "file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "http://127.0.0.1@1.1.1.1/",
        "http://1.1.1.1/\r\nHost: 127.0.0.1",
    )  # fmt: skip
    return {
        **{url: (to(url), "403 fetch_refused") for url in inside},
        "this machine's own name": (to(f"http://{socket.gethostname()}/"), "403 fetch_refused"),
        "a redirect from outside to 127.0.0.1": (redirected, "403 fetch_refused"),
        **{ascii(url)[1:-1]: (to(url), "422 fetch_address") for url in odd},
    }


_JSON = "application/json"


def _paths() -> Table:
    targets = (
        "/web/../settings.py", "/web/%2e%2e/settings.py", "/web/..%2f..%2fsettings.py", "/web/%252e%252e/settings.py",
        "/web//etc/passwd", "/web/....//settings.py", "/web/..%5c..%5csettings.py", "/web/a%00.html", "/web/",
        "/v1/jobs/../../etc/passwd", "/v1/jobs/..%2f..%2fetc/results/passwd", "/v1/jobs/x/results/..%2f..%2fpasswd",
        "/v1/jobs/x/results/%2e%2e", "/v1/jobs/'%20OR%201=1--/results/faces.csv", "//evil.example/%2f..", "/.env",
        "/static/holiday.jpg",
    )  # fmt: skip
    return {target: (got(target), ("404", "405", "422")) for target in targets}


def _tokens() -> Table:
    return {
        "none": (got("/v1/models", "Authorization: "), "401 token"),
        "in the address": (got("/v1/models?token={token}", "Authorization: x"), "401 token"),
        "two at once": (got("/v1/models", "Authorization: Bearer {token}", "Authorization: Bearer x"), "401 token"),
        "guessing, one after the other": (guessing, "429 guesses"),
    }


def still_reads(service: Service) -> bool:
    """Tell whether the service still does its work; the address guessed at tokens, but this one was used from there."""
    return post(service, portrait()).status == 200


# The service


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[Service, int]]:
    """Run `mien serve`; give where it is, and its process."""
    tokens = folder / "tokens.txt"
    mien = [sys.executable, "-m", "mien"]
    made = subprocess.run(
        [*mien, "token", "attacker", "--role", "admin", "--file", tokens], capture_output=True, check=True
    )
    token = made.stdout.decode().split()[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    limits = [word for name, value in LIMITS.items() for word in ("--limit", f"{name}={value}")]
    command = [
        *mien,
        "serve",
        "--port",
        str(port),
        "--token-file",
        tokens,
        "--fetch",
        "--purpose",
        "development",
        *limits,
    ]
    log = (folder / "log").open("wb")
    with log, subprocess.Popen([*command, "--state", folder / "state"], stdout=log, stderr=log) as process:
        service = Service(port, token)
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError):
                    if ask(service, "GET", "/readyz").status == 200:
                        break
                time.sleep(0.1)
            yield service, process.pid
        finally:
            process.terminate()


def peak_mb(pid: int) -> int:
    """Return the most memory that a process held; Linux only."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="mien-attacks-") as name:
        folder = Path(name)
        with served(folder) as (service, pid):
            assert still_reads(service), (folder / "log").read_text(encoding="utf-8")
            before = peak_mb(pid)
            all_of_them = attacks()
            print("| kind | attack | answer | seconds |\n| --- | --- | --- | ---: |")
            for attack in all_of_them:
                answer = attack.tries(service)
                right = attack.held(answer)
                failed += not right
                shown = answer.shown if right else f"{answer.shown} (expected {', '.join(attack.expected)})"
                print(f"| {attack.kind} | {attack.name} | {shown} | {answer.seconds:.2f} |", flush=True)
            reads, after = still_reads(service), peak_mb(pid)
        left = [str(p.relative_to(folder)) for p in (folder / "state").rglob("*") if p.is_file()]
        log = (folder / "log").read_text(encoding="utf-8", errors="replace")
        print(f"\n{len(all_of_them)} attacks, {failed} answered otherwise than they should be.")
        print(f"It {'still reads' if reads else 'NO LONGER READS'} a picture; peak memory {before} → {after} MB.")
        print(f"Files in its state: {', '.join(sorted(left))}.")
        print(f"In its log: {log.count('Traceback')} tracebacks, {log.count(' 500 ')} answers 500, "
              f"{sum(w in log for w in ('cron.d', 'evil.example', service.token))} words of the attacker.")  # fmt: skip
    return int(failed > 0 or not reads)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
