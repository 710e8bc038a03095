"""Give the running service thousands of damaged pictures and hundreds of damaged films; watch what becomes of it.

``mien serve`` runs in a process of its own; several connections send it files that were good before bits were turned,
lengths changed, parts moved, sides rewritten (`tests/mutations.py`). Each case has a number, and the number and the
seed give the same bytes again. All answers, and samples of the server's memory, open files and files on disk, go to the
folder of the run as they come; started again, it goes on with the cases that are missing.

``python benchmarks/serve_fuzz.py RUN --pictures 20000 --films 500``; ``--summary`` prints what there is;
``--case 17`` or ``--film-case 17`` sends one case again, and ``--save`` writes it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scene import about, frames, portrait

from mien.image import resize

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from mutations import Case, case, film_seeds, picture_seeds

# Longer than Limits.seconds: a request that takes this long hangs.
HANG_SECONDS = 60.0
# A film of a second is read in seconds; the service itself gives up after Limits.job_seconds.
FILM_SECONDS = 180.0
_FORM = "form-of-the-fuzz"
Row = dict[str, Any]


class Server:
    """`mien serve` in a process of its own, with a folder for its state and one for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self.state, self.temporary = folder / "state", folder / "tmp"
        for each in (self.state, self.temporary):
            each.mkdir(parents=True, exist_ok=True)
        # As deploy/ sets it.
        quiet = {"ORT_DISABLE_TELEMETRY": "1"}
        environ = os.environ | quiet | {"MIEN_STATE": str(self.state), "TMPDIR": str(self.temporary)}
        command = [sys.executable, "-m", "mien", "serve", "--port", str(self.port), "--purpose", "development"]
        with (folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        msg = f"mien serve did not start, see {folder / 'server.log'}"
        raise SystemExit(msg)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request over a connection of its own."""
        held = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        try:
            held.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = held.getresponse()
            return answer.status, answer.read()
        finally:
            held.close()

    def sample(self) -> Row:
        """Return the memory of the process in MB, its open files, its children, and the files on disk."""
        proc = Path("/proc") / str(self.process.pid)
        status = (proc / "status").read_text()
        facts = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if len(line.split()) > 1}
        return {
            "pid": self.process.pid,
            "mb": int(facts["VmRSS"]) // 1024,
            "peak_mb": int(facts["VmHWM"]) // 1024,
            "threads": int(facts["Threads"]),
            "fds": len(list((proc / "fd").iterdir())),
            "files": files_in(self.state),
            "temporary": files_in(self.temporary),
        }

    def stop(self) -> None:
        """End it as systemd would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


def files_in(folder: Path) -> int:
    """Return how many files lie in a folder and below."""
    return sum(len(names) for _, _, names in os.walk(folder))


# One case


def picture_request(one: Case) -> tuple[str, bytes, str]:
    """Return path, body and content type: the five ways of sending and asking take turns."""
    way = one.number % 5
    kind = "application/octet-stream"
    if way == 0:
        return "/v1/analyze?include=annotated,csv,crops", one.data, kind
    if way == 1:
        head = f'--{_FORM}\r\nContent-Disposition: form-data; name="file"; filename="{one.seed}"\r\n\r\n'
        return (
            "/v1/analyze",
            head.encode() + one.data + f"\r\n--{_FORM}--\r\n".encode(),
            f"multipart/form-data; boundary={_FORM}",
        )
    if way == 2:
        asked = {"pictures": [{"name": one.seed, "data": base64.b64encode(one.data).decode()}]}
        return "/v1/analyze", json.dumps(asked).encode(), "application/json"
    return "/v1/analyze" + ("?format=jpeg" if way == 3 else ""), one.data, kind


def send_picture(server: Server, one: Case) -> Row:
    path, body, kind = picture_request(one)
    status, answer = server.ask("POST", path, body, Content_Type=kind)
    return {"status": status, "code": code_of(status, answer)}


def send_film(server: Server, one: Case) -> Row:
    """Send a film, wait for its end, fetch a table of it, delete it."""
    status, answer = server.ask("POST", "/v1/films", one.data, Content_Type="application/octet-stream")
    if status != 202:
        return {"status": status, "code": code_of(status, answer)}
    job = json.loads(answer)
    place, until = f"/v1/jobs/{job['id']}", time.monotonic() + FILM_SECONDS
    while job["state"] in {"waiting", "running"} and time.monotonic() < until:
        time.sleep(0.1)
        job = json.loads(server.ask("GET", place)[1])
    told = {
        "status": status,
        "code": (job["error"] or {}).get("code", ""),
        "state": job["state"],
        "attempts": job["attempts"],
    }
    if job["state"] == "done":
        told["fetched"] = [server.ask("GET", r["url"])[0] for r in job["results"]]
    return told | {"deleted": server.ask("DELETE", place)[0]}


def code_of(status: int, answer: bytes) -> str:
    """Return the one word of an error; of one that has not the one shape, say so."""
    if status < 300:
        return ""
    try:
        return str(json.loads(answer)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "NOT THE ONE SHAPE"


# A run


class Run:
    """Cases of one kind through a server; answers and samples are appended to files of their own."""

    def __init__(
        self, folder: Path, kind: str, make: Callable[[int], Case], send: Callable[[Server, Case], Row]
    ) -> None:
        self.folder, self.kind, self.make, self.send = folder, kind, make, send
        self.answers, self.samples = folder / f"{kind}.jsonl", folder / f"{kind}-samples.jsonl"
        self.lock = threading.Lock()
        self.server = Server(folder)

    def go(self, count: int, connections: int) -> None:
        """Send the cases that were not sent before."""
        sent = {row["number"] for row in rows(self.answers)}
        missing = [n for n in range(count) if n not in sent]
        every = max(1, count // 100)
        with ThreadPoolExecutor(connections) as pool:
            for done, _ in enumerate(pool.map(self.one, missing), len(sent) + 1):
                if done % every == 0 or done == count:
                    self.note(self.samples, {"done": done} | self.server.sample())
        self.server.stop()
        left = {"files": files_in(self.server.state), "temporary": files_in(self.server.temporary)}
        self.note(self.samples, {"done": count, "stopped": self.server.process.returncode} | left)

    def one(self, number: int) -> None:
        """Send one case; a server that fell over is started again, and that is noted."""
        one, server = self.make(number), self.server
        begun = time.perf_counter()
        try:
            told = self.send(server, one)
        except (OSError, http.client.HTTPException, ValueError) as error:
            told = {"status": 0, "code": type(error).__name__}
        told |= {"number": number, "seed": one.seed, "done": one.done, "bytes": len(one.data)}
        self.note(self.answers, told | {"ms": round((time.perf_counter() - begun) * 1000, 1)})
        with self.lock:
            if self.server.process.poll() is not None:
                self.note(self.samples, {"fell": self.server.process.returncode, "about": number})
                self.server = Server(self.folder)

    def note(self, path: Path, row: Row) -> None:
        """Append a row."""
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def rows(path: Path) -> Iterator[Row]:
    """Read what was noted; a line that a kill cut off is passed over."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def summary(folder: Path, kind: str) -> None:
    """Print what became of all cases of a kind."""
    answers, samples = list(rows(folder / f"{kind}.jsonl")), list(rows(folder / f"{kind}-samples.jsonl"))
    if not answers:
        return
    print(f"\n{len(answers)} {kind}, each answered once: {len({a['number'] for a in answers}) == len(answers)}")
    print("| status | code | ended | cases |\n|---|---|---|---|")
    kinds = Counter((a["status"], a["code"], a.get("state", "")) for a in answers)
    for (status, code, state), count in kinds.most_common():
        print(f"| {status} | {code} | {state} | {count} |")
    times = [a["ms"] for a in answers]
    cuts = statistics.quantiles(times, n=1000) if len(times) > 1 else times * 999
    tops = f"99 % {cuts[989]:.0f}, 99.9 % {cuts[998]:.0f}, most {max(times):.0f}"
    print(f"ms: median {statistics.median(times):.0f}, {tops}")
    for worst in sorted(answers, key=lambda a: -a["ms"])[:5]:
        print(f"slow: {told(worst)}, {worst['ms']:.0f} ms")
    bad = [a for a in answers if is_bad(a)]
    print(f"5xx, hangs, broken answers: {len(bad)}; server fell over: {sum('fell' in s for s in samples)}")
    for one in bad[:20]:
        print(f"bad: {told(one)}")
    memory([s for s in samples if "mb" in s])
    for last in (s for s in samples if "stopped" in s):
        left = f"{last['files']} in the state, {last['temporary']} temporary"
        print(f"stopped with {last['stopped']}; files left: {left}")


def told(row: Row) -> str:
    """Return an answer in words."""
    what = f"case {row['number']} {row['seed']} {'+'.join(row['done'])}"
    return f"{what}: {row['status']} {row['code']} {row.get('state', '')}".rstrip()


def is_bad(row: Row) -> bool:
    """Tell an answer that must not be."""
    never_ended = row.get("state") in {"waiting", "running"} or row.get("deleted", 204) not in {200, 202, 204}
    broken = row["status"] == 0 or row["status"] >= 500 or "SHAPE" in row["code"] or row["code"] == "crashed"
    return broken or never_ended or any(s != 200 for s in row.get("fetched", ()))


def memory(taken: list[Row]) -> None:
    """Print the samples by quarters of the run."""
    for quarter in range(4):
        part = taken[len(taken) * quarter // 4 : len(taken) * (quarter + 1) // 4]
        if part:
            mb, fds, last = [s["mb"] for s in part], [s["fds"] for s in part], part[-1]
            print(
                f"quarter {quarter + 1}: {statistics.mean(mb):.0f} MB [{min(mb)}–{max(mb)}], peak {last['peak_mb']}, "
                f"open files {min(fds)}–{max(fds)}, threads {last['threads']}, pid {last['pid']}, "
                f"files {last['files']}, temporary {last['temporary']}"
            )


def makers(folder: Path, seed: int) -> Mapping[str, tuple[Callable[[int], Case], Callable[[Server, Case], Row]]]:
    """Return how a case of each kind is made and sent."""
    pictures = picture_seeds(resize(portrait()[:320, 60:380], 160, 160))
    shown = list(frames(160, 120, 24))
    films = film_seeds(shown, folder)
    return {
        "pictures": (lambda n: case(n, pictures, seed=seed), send_picture),
        "films": (lambda n: case(n, films, seed=seed), send_film),
    }


def again(folder: Path, kind: str, number: int, seed: int, save: Path | None) -> None:
    """Send one case again, and print what comes."""
    make, send = makers(folder, seed)[kind]
    one = make(number)
    if save:
        save.write_bytes(one.data)
    server = Server(folder / "again")
    begun = time.perf_counter()
    try:
        print(
            one.seed,
            one.done,
            len(one.data),
            send(server, one),
            f"{time.perf_counter() - begun:.2f} s",
            server.sample(),
        )
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the run: answers, samples, the server's state")
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--films", type=int, default=0)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--summary", action="store_true", help="print what there is, and send nothing")
    parser.add_argument("--case", type=int)
    parser.add_argument("--film-case", type=int)
    parser.add_argument("--save", type=Path)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for kind, number in (("pictures", chosen.case), ("films", chosen.film_case)):
        if number is not None:
            again(chosen.folder, kind, number, chosen.seed, chosen.save)
            return
    print(about())
    if not chosen.summary:
        ways = makers(chosen.folder, chosen.seed)
        for kind, count in (("pictures", chosen.pictures), ("films", chosen.films)):
            if count:
                Run(chosen.folder, kind, *ways[kind]).go(count, chosen.connections)
    for kind in ("pictures", "films"):
        summary(chosen.folder, kind)


if __name__ == "__main__":
    main()
