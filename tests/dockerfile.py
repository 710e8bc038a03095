"""A Dockerfile without an engine: its steps, what its context holds, and its build carried out in a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Step:
    """One instruction: its word and the rest of it, in one line."""

    word: str
    rest: str

    @property
    def listed(self) -> list[str]:
        """What the instruction's JSON list holds."""
        found: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return found


def stages(text: str) -> list[list[Step]]:
    """Return the steps of each stage, its FROM first."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Step(word, rest.strip()))
    return found


def environment(steps: list[Step]) -> dict[str, str]:
    """Return what the ENV steps say."""
    return dict(pair.split("=", 1) for s in steps if s.word == "ENV" for pair in shlex.split(s.rest))


def ignored(path: str, patterns: list[str]) -> bool:
    """Tell whether the builder does not see a path: the last line that fits it or a folder above it decides."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    out = False
    for line in patterns:
        keep, pattern = line.startswith("!"), line.removeprefix("!")
        pieces = re.split(r"(\*\*/|\*)", pattern)
        form = "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(p, re.escape(p)) for p in pieces)
        if any(re.fullmatch(form, part) for part in above):
            out = not keep
    return out


def context(source: Path, files: list[str], into: Path) -> Path:
    """Copy what the builder is sent of these files."""
    lines = [line for line in (source / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for name in files:
        if not ignored(name, lines):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, into / name)
    return into


class Build:
    """A build in a folder: absolute paths of the image lie under ``root``; Python is the one that runs the tests.

    Steps that make users are left out. In place of a download, the packages of the requirements are those of this
    environment, each by its own name, so that what the file forgets is missing.
    """

    PLACES = ("/opt/mien", "/var/lib/mien", "/build")

    def __init__(self, sent: Path, root: Path) -> None:
        self.sent, self.root, self.here = sent, root, root
        self.left_out: list[str] = []
        (root / "bin").mkdir(parents=True)
        wrapper = root / "bin" / "python"
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        wrapper.chmod(0o755)

    def placed(self, text: str) -> str:
        """Return a text with the places of the image where they lie here."""
        return re.sub(rf"(?<![\w.])({'|'.join(self.PLACES)})\b", lambda m: f"{self.root}{m[1]}", text)

    def carry_out(self, steps: list[Step]) -> None:
        """Do what the steps of a stage say."""
        environ = os.environ | environment(steps)
        environ |= {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "HOME": str(self.root)}
        environ.pop("PYTHONPATH", None)
        for step in steps:
            if step.word == "WORKDIR":
                self.here = Path(self.placed(step.rest))
                self.here.mkdir(parents=True, exist_ok=True)
            elif step.word == "COPY":
                self._copy(shlex.split(step.rest))
            elif step.word == "RUN":
                self._run(step.rest, environ)

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from"):  # both stages lie in the one folder
            assert Path(self.placed(words[-1])).exists()
            return
        *sources, target = words
        for source in sources:
            into = self.here / target
            if (self.sent / source).is_dir():
                shutil.copytree(self.sent / source, into)
            else:
                shutil.copy(self.sent / source, into)

    def _run(self, command: str, environ: dict[str, str]) -> None:
        if "useradd" in command:
            self.left_out.append(command)
        elif "--requirement" in command:
            self.left_out.append(command)
            self._borrow((self.here / "requirements.txt").read_text())
        else:
            done = subprocess.run(
                ["sh", "-ec", self.placed(command)],
                cwd=self.here,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _borrow(self, requirements: str) -> None:
        base = str(self.root / "opt" / "mien")
        site = Path(sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base}))
        for line in requirements.splitlines():
            if line and not line.startswith("#"):
                held = distribution(line.partition("==")[0])
                tops = {Path(f).parts[0] for f in held.files or ()} - {"..", "__pycache__"}
                for top in tops:
                    if not (site / top).exists():
                        (site / top).symlink_to(str(held.locate_file(top)))
