"""A model in another process: started, asked, and ended, with every way to fail told in one line."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError

__all__ = ["PEERS", "Facts", "Weight", "Worker"]

PEERS: Mapping[str, str] = {"fer": "fer", "fer-keras": "fer", "deepface": "deepface"}
"""The other packages that can be compared, and what each is called where it is installed."""

_SCRIPT = Path(__file__).with_name("worker.py")
_PACKAGES = Path(__file__).parents[3]
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_SUM = 0.02
_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model said when it was ready: its labels in the order of its scores, and how long the start took."""

    labels: tuple[str, ...]
    version: str
    python: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Weight:
    """Installed size, 10⁶ bytes.

    Attributes
    ----------
    megabytes
        The package and all that it needs; None where it was not installed by pip.
    environment
        All of the Python's site-packages.
    missing
        What the package declares to need and is not installed.
    """

    megabytes: float | None
    environment: float
    missing: tuple[str, ...]


@dataclass(slots=True)
class Worker:
    """One model in its own Python; a context manager that ends the process.

    Parameters
    ----------
    name
        What the model is called in messages.
    kind
        What to open: ``mien``, ``onnx``, or one of `PEERS`.
    python
        The interpreter, or the folder of its environment.
    options
        What the kind needs to know, plain values.
    timeout
        Seconds that it may take to start, and for each answer.
    """

    name: str
    kind: str
    python: Path = field(default_factory=lambda: Path(sys.executable))
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 600.0
    _process: subprocess.Popen[str] | None = None
    _answers: queue.Queue[str | None] = field(default_factory=queue.Queue)
    _said: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Facts:
        """Start the process and wait until the model has read a first face.

        Raises
        ------
        ModelError
            If the interpreter cannot be started, the package is missing or damaged, or it takes too long.
        """
        command = [str(self._interpreter()), str(_SCRIPT), self.kind, json.dumps(dict(self.options))]
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - close() ends it
        started = time.perf_counter()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=self._environment(),
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            msg = f"{self.name}: cannot start {command[0]} ({error.strerror}); {self._advice()}"
            raise ModelError(msg) from error
        threading.Thread(target=self._listen, daemon=True).start()
        facts = self._answer()
        seconds = time.perf_counter() - started
        return Facts(tuple(facts["labels"]), facts["version"], facts["python"], seconds)

    def score(self, crops: Path, to: Path, *, n: int) -> tuple[NDArray[np.float64], float | None]:
        """Return scores (n, K) of the crops in a file, rows summing to 1, and the peak memory so far, 10⁶ bytes.

        Raises
        ------
        ModelError
            If the model fails, takes too long, or what it gives are no probabilities.
        """
        peak = self._ask(do="score", crops=str(crops), to=str(to))["peak_mb"]
        with np.load(to) as archive:
            return _probabilities(self.name, archive["scores"], n), peak

    def milliseconds(self, crops: Path, *, batch: int, seconds: float, calls: int = 3) -> tuple[float, float]:
        """Return milliseconds a face over some calls of one batch size: by the clock, and of the processor."""
        found = self._ask(do="time", crops=str(crops), batch=batch, seconds=seconds, calls=calls)
        return float(found["ms"]), float(found["processor"])

    def weigh(self) -> Weight:
        """Count the installed megabytes."""
        found = self._ask(do="weigh")
        return Weight(found["megabytes"], found["environment"], tuple(found["missing"]))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    # What was never read by the other side cannot be flushed.
                    try:
                        pipe.close()
                    except OSError:
                        continue
            self._process = None
        if self._said is not None:
            self._said.close()
            self._said = None

    def _interpreter(self) -> Path:
        if not self.python.is_dir():
            return self.python
        places = (self.python / "bin" / "python", self.python / "Scripts" / "python.exe")
        return next((p for p in places if p.exists()), places[0])

    def _environment(self) -> dict[str, str]:
        ours = self.kind not in PEERS
        kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"} or ours}
        quiet = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONIOENCODING": "utf-8"}
        if ours:
            paths = [str(_PACKAGES), kept.get("PYTHONPATH", "")]
            quiet["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return kept | quiet | dict.fromkeys(_ONE_THREAD, "1")

    def _listen(self) -> None:
        process = self._process
        if process is not None and process.stdout is not None:
            for line in process.stdout:
                self._answers.put(line)
        self._answers.put(None)

    def _ask(self, **request: object) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            msg = f"{self.name}: its process is not running; call start first"
            raise ModelError(msg)
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            return self._answer()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=self.timeout)
        except queue.Empty:
            self.close()
            msg = f"{self.name}: no answer in {self.timeout:g} s; give it more with --timeout, or leave it out"
            raise ModelError(msg) from None
        try:
            answer = json.loads(line) if line is not None else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ModelError(self._ended())
        if "error" in answer:
            msg = f"{self.name}: {answer['error']}; {self._advice()}"
            self.close()
            raise ModelError(msg)
        return answer

    def _ended(self) -> str:
        """Return the line for a process that is gone, or that answers something else than our script does."""
        code = self._code()
        if self._said is not None:
            self._said.seek(0)
        said = [line.strip() for line in self._said or () if line.strip()]
        why = f": {said[-1][:200]}" if said else ""
        self.close()
        ended = f"it ended with code {code}" if code is not None else "it gave no answer of our script"
        return f"{self.name}: {ended} ({self._interpreter()}{why}); {self._advice()}"

    def _code(self) -> int | None:
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            return None

    def _advice(self) -> str:
        if self.kind in PEERS:
            return f"name a Python 3.10 or newer that has {PEERS[self.kind]}: --peer {self.kind}=/path/to/python"
        return "see whether the model can be evaluated by itself"


def _probabilities(name: str, scores: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    if scores.ndim != 2 or len(scores) != n:
        msg = f"{name}: it gave scores of shape {scores.shape} for {n} faces; expected ({n}, labels)"
        raise ModelError(msg)
    if not np.isfinite(scores).all() or (scores < 0).any() or (np.abs(scores.sum(1) - 1) > _SUM).any():
        low, high = (f"{v:.3g}" for v in (scores.min(), scores.max()))
        msg = f"{name}: its scores, {low} to {high}, are no probabilities that sum to 1; for raw ones say scores=logits"
        raise ModelError(msg)
    summed: NDArray[np.float64] = scores / scores.sum(1, keepdims=True)
    return summed
