"""The script that runs a model in its own Python: plain Python and NumPy, started by `process.Worker`.

It answers requests, a line of JSON each, on what was its standard output when it started; whatever a package prints
goes to standard error. Python 3.10 or newer.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SEVEN = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
DEEPFACE_WEIGHTS = "facial_expression_model_weights"


class Opened:
    """A model that is ready.

    ``classify`` takes (N, H, W) or (N, H, W, 3) uint8 RGB crops and gives (N, K) scores in the order of ``labels``;
    ``package`` is what pip calls the package that brings it, ``version`` that package's.
    """

    def __init__(self, classify: Callable[[Any], Any], labels: Any, version: str, package: str) -> None:
        self.classify, self.labels, self.version, self.package = classify, list(labels), version, package


def open_mien(options: dict[str, Any]) -> Opened:
    """Open a model of mien's own kind; one head gives the scores."""
    expression = importlib.import_module("mien.models.expression").Expression(options["model"], threads=1)
    head = next(h for h in expression.heads if h.name == options["head"])

    def classify(crops: Any) -> Any:
        return expression.read(crops).scores[head.name]

    return Opened(classify, head.labels.labels, _version("mien"), "mien")


def open_onnx(options: dict[str, Any]) -> Opened:
    """Open a foreign ONNX file, described by the words of `foreign.Description`."""
    foreign = importlib.import_module("mien.evaluate.adapters.foreign")
    described = foreign.Description.from_dict(options)
    return Opened(foreign.Foreign(described, threads=1), described.labels, _version("mien"), "mien")


def open_fer(options: dict[str, Any]) -> Opened:
    """Open the net of the package `fer`, as its `FER()` makes it: TensorFlow Lite, or Keras if so asked.

    Crops are prepared as its `detect_emotions` does after detection: grey, resized by OpenCV to the net's size, in
    -1 … 1. Its rounding to two places is left out.
    """
    cv2 = importlib.import_module("cv2")
    _one_thread_tensorflow()
    cv2.setNumThreads(1)
    try:
        kind = importlib.import_module("fer.fer").FER
    except ModuleNotFoundError as error:
        if error.name != "fer.fer":
            raise
        kind = importlib.import_module("fer").FER
    net = kind(use_tflite=options.get("lite", True))
    side = tuple(net._FER__emotion_target_size)

    def classify(crops: Any) -> Any:
        grey = [cv2.resize(c if c.ndim == 2 else cv2.cvtColor(c, cv2.COLOR_RGB2GRAY), side) for c in crops]
        return np.asarray(net._classify_emotions((np.array(grey, "float32") / 255.0 - 0.5) * 2.0))

    names = net._get_labels()
    return Opened(classify, [names[i] for i in range(len(names))], _version("fer"), "fer")


def open_deepface(_options: dict[str, Any]) -> Opened:
    """Open deepface's emotion model by its public `DeepFace.analyze`, without detection, a crop at a time."""
    importlib.import_module("deepface")
    home = Path(os.environ.get("DEEPFACE_HOME") or Path.home()) / ".deepface" / "weights"
    if not list(home.glob(f"{DEEPFACE_WEIGHTS}.*")):
        msg = f"its weights are not on this machine ({home}/{DEEPFACE_WEIGHTS}.*); deepface fetches them at first use, \
and compare fetches nothing"
        raise FileNotFoundError(msg)
    _one_thread_tensorflow()
    analyze = importlib.import_module("deepface.DeepFace").analyze

    def one(crop: Any) -> list[float]:
        colour = np.repeat(crop[..., None], 3, axis=2) if crop.ndim == 2 else crop[..., ::-1]
        found = analyze(
            np.ascontiguousarray(colour),
            actions=["emotion"],
            detector_backend="skip",
            enforce_detection=False,
            silent=True,
        )
        shares = (found[0] if isinstance(found, list) else found)["emotion"]
        return [shares[label] / 100 for label in SEVEN]

    return Opened(lambda crops: np.array([one(c) for c in crops]), SEVEN, _version("deepface"), "deepface")


KINDS: dict[str, Callable[[dict[str, Any]], Opened]] = {
    "mien": open_mien,
    "onnx": open_onnx,
    "fer": open_fer,
    "fer-keras": lambda options: open_fer({**options, "lite": False}),
    "deepface": open_deepface,
}


def _one_thread_tensorflow() -> None:
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ModuleNotFoundError:
        return
    if hasattr(tensorflow, "config"):
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def score(model: Opened, request: dict[str, Any]) -> dict[str, Any]:
    """Score all crops of a file, 64 a call, into another file."""
    crops = np.load(request["crops"])["crops"]
    parts = [np.asarray(model.classify(crops[i : i + 64]), np.float64) for i in range(0, len(crops), 64)]
    np.savez(request["to"], scores=np.concatenate(parts))
    return {"peak_mb": peak_megabytes()}


def measure(model: Opened, request: dict[str, Any]) -> dict[str, Any]:
    """Time calls of one batch size for a while, after one that does not count: milliseconds a face, and processor's."""
    crops = np.load(request["crops"])["crops"]
    size = request["batch"]
    batches = [crops[i : i + size] for i in range(0, len(crops) - size + 1, size)]
    model.classify(batches[0])
    calls, started, busy = 0, time.perf_counter(), time.process_time()
    while calls < request["calls"] or time.perf_counter() - started < request["seconds"]:
        model.classify(batches[calls % len(batches)])
        calls += 1
    seconds, worked = time.perf_counter() - started, time.process_time() - busy
    return {"ms": seconds * 1000 / (calls * size), "processor": worked * 1000 / (calls * size)}


def weigh(model: Opened, _request: dict[str, Any]) -> dict[str, Any]:
    """Count the installed files of the package and all that it needs, and of the whole environment; 10⁶ bytes."""
    mine, missing = closure(model.package)
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    whole = sum(f.stat().st_size for d in folders for f in Path(d).rglob("*") if f.is_file() and not f.is_symlink())
    return {"megabytes": mine and mine / 1e6, "environment": whole / 1e6, "missing": missing}


def closure(package: str) -> tuple[int | None, list[str]]:
    """Return the bytes of a package with all that it needs, by the lists of files that pip keeps, and what is absent.

    None where the package was not installed by pip.
    """
    total, missing, seen, waiting = 0, [], set(), [package]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        total += sum(
            p.stat().st_size for p in (Path(str(found.locate_file(f))) for f in found.files or ()) if p.exists()
        )
        waiting += [_needed(line) for line in found.requires or () if _applies(line)]
    return (None if package in missing else total), sorted(set(missing) - {package})


def _needed(line: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", line)
    return match.group() if match else line


def _applies(line: str) -> bool:
    """Return whether a requirement holds here: no extra, and not only for another system or Python."""
    marker = line.partition(";")[2]
    if "extra" in marker:
        return False
    rules = re.findall(r"(sys_platform|platform_system|os_name)\s*(==|!=)\s*[\"'](\w+)[\"']", marker)
    here = {"sys_platform": sys.platform, "os_name": os.name}
    here["platform_system"] = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}.get(sys.platform, "")
    return all((here[name] == value) == (sign == "==") for name, sign, value in rules)


def peak_megabytes() -> float | None:
    """Return the most memory that this process ever held, 10⁶ bytes; None where the system does not tell."""
    try:
        # Not getrusage first: on Linux it may still hold the parent's peak from before this program was started.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        resource = importlib.import_module("resource")
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


DEEDS = {"score": score, "time": measure, "weigh": weigh}


def serve(kind: str, options: dict[str, Any], requests: Any, answers: Any) -> None:
    """Open a model, name a blank face, then answer requests until there are no more."""

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        model = KINDS[kind](options)
        model.classify(np.full((1, 48, 48), 127, np.uint8))
    except BaseException as error:  # noqa: BLE001 - whatever a package raises, SystemExit too, is said in one line
        say({"error": _line(error)})
        return
    say({"labels": model.labels, "version": model.version, "python": sys.version.split()[0]})
    for line in requests:
        request = json.loads(line)
        try:
            say(DEEDS[request["do"]](model, request))
        except Exception as error:  # noqa: BLE001 - as above
            say({"error": _line(error)})


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main() -> None:
    """Keep standard output for answers alone, then serve."""
    # The folder of this script holds no packages, and must not stand in front of those that do.
    sys.path.pop(0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], json.loads(sys.argv[2]), sys.stdin, answers)


if __name__ == "__main__":
    main()
