"""One run of schemathesis against a service that runs, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEFT_OUT = {
    # The document can only say that a file is bytes; of most bytes the service has to say that they are no picture.
    "positive_data_acceptance",
}


@dataclass(slots=True)
class Tally:
    """What was asked and answered: cases by operation, answers by operation and status, checks, what failed."""

    cases: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Requests that were answered."""
        return sum(self.answers.values())

    @property
    def statuses(self) -> Counter[int]:
        """Answers by status."""
        found: Counter[int] = Counter()
        for (_, status), count in self.answers.items():
            found[status] += count
        return found

    def add(self, event: dict[str, Any]) -> None:
        """Count one event of the report."""
        scenario = event.get("ScenarioFinished")
        if scenario is None or not scenario.get("recorder"):
            return
        recorder = scenario["recorder"]
        for key, told in recorder.get("interactions", {}).items():
            case = recorder["cases"][key]["value"]
            operation = f"{case['method']} {case['path']}"
            self.cases[operation] += 1
            status = (told.get("response") or {}).get("status_code", 0)
            self.answers[operation, status] += 1
            for check in recorder["checks"].get(key, ()):
                self.checks[check["name"]] += 1
                if check["status"] != "success":
                    self.failures.setdefault(f"{operation} {status} {check['name']}", _said(check, told["request"]))


def _said(check: dict[str, Any], request: dict[str, Any]) -> str:
    detail = check.get("failure_info", check)
    return f"{request['method']} {request['uri']}\n{json.dumps(detail, ensure_ascii=False)[:3000]}"


def run(
    address: str,
    token: str,
    folder: Path,
    *,
    seed: int,
    examples: int,
    seconds: int | None = None,
    phases: str = "examples,coverage,fuzzing,stateful",
    workers: int = 1,
) -> Tally:
    """Let schemathesis ask a service, as an administrator, and count.

    ``examples`` are cases an operation and kind of data; with ``seconds``, the phases are repeated until they are over.
    Several workers ask at once, so that one that listens to the events of a job does not stop the others.
    """
    report = folder / f"schema-{seed}.ndjson"
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("run", f"{address}/v1/openapi.json", "--mode", "all", "--phases", phases, "--checks", "all"),
        *("--exclude-checks", ",".join(sorted(LEFT_OUT)), "--header", f"Authorization: Bearer {token}"),
        *("--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure", "--no-shrink"),
        *(
            "--workers",
            str(workers),
            "--request-timeout",
            "60",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
            "--no-color",
        ),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
        *(("--max-time", str(seconds)) if seconds else ()),
    ]
    here = str(Path(__file__).parent)
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": paths, "SCHEMATHESIS_HOOKS": "schemahooks"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=(seconds or 300) + 300,
    )
    assert done.returncode in {0, 1}, done.stdout[-3000:] + done.stderr[-3000:]
    tally = Tally()
    with report.open(encoding="utf-8") as lines:
        for line in lines:
            tally.add(json.loads(line))
    report.unlink()
    assert tally.total, done.stdout[-3000:] + done.stderr[-3000:]
    return tally
