"""`mien film extract` and `mien film annotate` as their users call them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from filmindex import write_index
from films import make_film
from test_extract import SIZE, film, index, scenes  # noqa: F401 - fixtures
from typer.testing import CliRunner

from mien.cli import film_annotate, film_extract
from mien.cli.app import app
from mien.film.index import Index
from mien.media.stills import read_picture
from mien.media.video import Film


def mien(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["film", *[str(a) for a in arguments]])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_everything_at_once(index: Index, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    out = tmp_path / "out"
    out.mkdir()
    names = {"crops": "crops", "clips": "clips", "sheet": "s.jpg", "srt": "a.srt", "edl": "a.edl", "csv": "a.csv"}
    options = [part for name, file in names.items() for part in (f"--{name}", out / file)]
    code, stdout, stderr = mien(
        "extract", index.path, "happy for 8 frames", *options, "--list", out / "l.json", "--compare", out / "c.png"
    )
    assert (code, stdout) == (0, "")
    assert "22 faces in 2 stretches; wrote 22 crops, 2 clips" in stderr
    assert sorted(p.name for p in out.iterdir()) == sorted([*names.values(), "l.json", "c.png"])
    assert len(list((out / "crops" / "happy").iterdir())) == 22
    with Film(next(iter(sorted((out / "clips").iterdir())))) as clip:
        assert clip.has_sound
        assert (clip.width, clip.height) == SIZE
    read_picture(out / "s.jpg")


def test_a_json_summary(index: Index, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    code, stdout, stderr = mien(
        "extract", index.path, "happy for 8 frames", "--clips", tmp_path / "c", "--srt", tmp_path / "a.srt", "--json"
    )
    assert (code, stderr) == (0, "")
    said = json.loads(stdout)
    assert said["query"] == "happy for 8 frames"
    assert (said["faces"], said["spans"], said["crops"]) == (22, 2, 0)
    assert said["files"] == [str(tmp_path / "a.srt")]
    assert len(said["clips"]) == 2
    assert all(Path(p).is_file() for p in said["clips"])
    assert said["frames_decoded"] > 0


def test_smoothing_and_bridging_reach_the_comparison(index: Index, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    options = ("--smooth", "median:5", "--bridge", "2", "--compare", tmp_path / "c.png", "--quiet")
    code, stdout, stderr = mien("extract", index.path, "happy for 8 frames", *options)
    assert (code, stdout, stderr) == (0, "", "")
    read_picture(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["happy"], 2, "mien: nothing to write; name at least one of crops, clips, sheet"),
        (["hapy", "--srt", "a.srt"], 2, "did you mean 'happy'?"),
        (["surprise", "--srt", "a.srt"], 1, "mien: 'surprise' found nothing in "),
        (["surprise", "--srt", "a.srt", "--quiet"], 1, "mien: 'surprise' found nothing in "),
        (["happy", "--sheet", "gone/s.jpg"], 2, "cannot be written"),
        (["happy", "--srt", "gone/a.srt"], 2, "its folder does not exist"),
        (["happy", "--srt", "a.srt", "--anonymize", "me"], 2, "anonymize is 'me'; choose others or all"),
        (["happy", "--clips", "c", "--film", "gone.mp4"], 2, "gone.mp4: the film of"),
        (["happy", "--clips", "c", "--pad", "-1"], 2, "pad and join are seconds from 0 on"),
        (["happy", "--compare", "c.png"], 2, "has none"),
    ],
)
def test_what_goes_wrong_is_one_line(
    index: Index,  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    got, stdout, stderr = mien("extract", index.path, *arguments)
    assert (got, stdout) == (code, "")
    assert said in stderr
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == (3 if "hapy" in arguments else 1)
    assert [n for n in sorted(p.name for p in tmp_path.iterdir()) if n not in before] in ([], ["c"])


def test_no_index(tmp_path: Path) -> None:
    code, _, stderr = mien("extract", tmp_path / "gone.mien", "happy", "--srt", tmp_path / "a.srt")
    assert code == 2
    assert "no such index" in stderr


def test_a_film_that_was_moved(index: Index, film: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixtures
    lost = write_index(tmp_path / "lost.mien", index.faces(), frames=index.frames(), film=film)
    manifest = lost.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(json.dumps(str(film)), '"gone.mp4"'))
    code, _, stderr = mien("extract", lost.path, "happy for 8 frames", "--sheet", tmp_path / "s.png")
    assert code == 2
    assert "--film" in stderr
    code, _, _ = mien("extract", lost.path, "happy for 8 frames", "--sheet", tmp_path / "s.png", "--film", film)
    assert code == 0


def test_annotate(index: Index, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    code, stdout, stderr = mien("annotate", index.path)
    assert (code, stdout) == (0, "")
    assert "× realtime" in stderr.splitlines()[-1]
    with Film(tmp_path / "movie-annotated.mp4") as made:
        assert made.has_sound
    code, stdout, _ = mien("annotate", index.path, "--slow", "2", "--out", tmp_path / "slow.mp4", "--json")
    said = json.loads(stdout)
    assert (code, said["frames"], said["sound"]) == (0, 60, False)
    assert said["realtime_factor"] > 0
    code, _, stderr = mien("annotate", index.path, "--slow", "2", "--out", tmp_path / "slow.mp4")
    assert "without sound since it is slowed" in stderr
    code, _, stderr = mien("annotate", index.path, "surprise")
    assert (code, stderr.count("\n")) == (1, 1)
    code, _, stderr = mien("annotate", index.path, "--anonymize", "others")
    assert code == 2
    assert "nobody was asked for" in stderr
    code, _, stderr = mien("annotate", index.path, "--out", tmp_path / "gone" / "a.mp4")
    assert (code, stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("module", [film_extract, film_annotate])
def test_ctrl_c(
    index: Index,  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
) -> None:
    def stopped(self: object, frames: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(film_extract.Decoding, "step", stopped)
    (tmp_path / "old.mp4").write_bytes(b"old")
    command = ["annotate", index.path, "--out", tmp_path / "old.mp4"]
    if module is film_extract:
        command = ["extract", index.path, "happy", "--clips", tmp_path / "c"]
    code, _, stderr = mien(*command)
    assert (code, stderr) == (130, "mien: stopped\n")
    assert (tmp_path / "old.mp4").read_bytes() == b"old"
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.mp4.tmp"))


_FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from mien.__main__ import main
sys.argv = ["mien", *sys.argv[2:]]
sys.exit(main())
"""


def test_a_disk_that_fills(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: one line, and nothing half written."""
    from filmindex import one_track

    source = make_film(tmp_path / "movie.mp4", scenes())
    made = write_index(tmp_path / "movie.mien", one_track(["happy"] * 60), film=source)
    out = tmp_path / "out"
    command = [sys.executable, "-c", _FULL, "20000", "film", "extract", str(made.path), "happy", "--clips", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("mien: ")
    assert done.stderr.count("\n") == 1
    assert list(out.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000
