"""The command line on real pictures and films with the bundled models."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import make_film, spoil
from typer.testing import CliRunner

from mien.cli.app import app
from mien.media.video import Film
from mien.models.mtcnn import Mtcnn
from mien.results.columns import flat_names
from mien.results.files import read_faces

SKIMAGE = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
HOPPER = Path(find_spec("matplotlib").submodule_search_locations[0]) / "mpl-data/sample_data/grace_hopper.jpg"


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    return Path(shutil.copy(SKIMAGE / "astronaut.png", tmp_path / "portrait.png"))


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 300, 3), 120, np.uint8))
    return tmp_path / "wall.png"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    face = cv2.resize(cv2.imread(str(SKIMAGE / "astronaut.png"))[..., ::-1], (240, 240))
    pictures = []
    for i in range(12):
        frame = np.full((240, 320, 3), 100, np.uint8)
        if i >= 3:
            frame[:, 5 * i : 5 * i + 240] = face
        pictures.append(frame)
    return make_film(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures, fps=10)


def mien(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_picture_gives_a_table(portrait: Path) -> None:
    code, out, _ = mien("analyze", portrait)
    assert code == 0
    assert out.splitlines()[0].split() == [
        "source",
        "face",
        "expression",
        "score",
        "second",
        "score",
        "box",
        "x1",
        "y1",
        "x2",
        "y2",
        "reason",
    ]
    assert "happy" in out


def test_json_is_one_document_and_nothing_else(portrait: Path, wall: Path) -> None:
    code, out, _ = mien("analyze", portrait, wall, "--json")
    document = json.loads(out)
    assert code == 0
    assert [f["top"] for f in document["faces"]] == ["happy", None]
    assert document["faces"][1]["reason"] == ["no_face"]
    assert document["summary"]["faces"] == 1
    assert document["failures"] == []
    assert sum(document["faces"][0]["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_exit_code_1_when_there_is_no_face_anywhere(wall: Path) -> None:
    assert mien("analyze", wall)[0] == 1


def test_a_failed_input_stands_at_the_end_and_the_others_go_on(portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("words")
    code, out, err = mien("analyze", tmp_path / "text.jpg", portrait, tmp_path / "none.jpg", "--json")
    assert code == 2
    document = json.loads(out)
    assert [f["top"] for f in document["faces"]] == ["happy"]
    assert len(document["failures"]) == 2
    assert len(err.strip().splitlines()) == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_out_holds_every_row(portrait: Path, wall: Path, clip: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"faces.{ending}"
    assert mien("analyze", portrait, wall, clip, "--out", target)[0] == 0
    faces = read_faces(target)
    assert len(faces) == 2 + 12
    film = faces[faces.source_names == str(clip)]
    np.testing.assert_allclose(film.time, np.arange(12) / 10, atol=1e-9)
    assert film.reason_words[:3] == ["no_face"] * 3
    assert film.found[3:].all()


def test_csv_header_is_the_declared_one(portrait: Path, tmp_path: Path) -> None:
    mien("analyze", portrait, "--out", tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="") as lines:
        header = tuple(next(csv.reader(lines)))
    assert header == flat_names(("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"))


def test_film_layout_has_a_row_a_frame(clip: Path, tmp_path: Path) -> None:
    assert mien("analyze", clip, "--out", tmp_path / "f.csv", "--layout", "film")[0] == 0
    with (tmp_path / "f.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [int(r["frame"]) for r in rows] == list(range(12))
    assert [int(r["faces"]) for r in rows] == [0] * 3 + [1] * 9


def test_annotated_pictures_and_films(portrait: Path, clip: Path, tmp_path: Path) -> None:
    assert mien("analyze", portrait, clip, "--annotate", tmp_path / "out")[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["clip-mien.mp4", "portrait-mien.png"]
    drawn = cv2.imread(str(tmp_path / "out" / "portrait-mien.png"))
    assert drawn.shape == (512, 512, 3)
    assert (drawn != cv2.imread(str(portrait))).any()


def test_covered_faces_are_found_by_nobody(portrait: Path, clip: Path, tmp_path: Path) -> None:
    arguments = (portrait, spoil(Path(shutil.copy(clip, tmp_path / "hurt.mp4")), first=0.7, last=0.8))
    out = tmp_path / "out"
    assert mien("analyze", *arguments, "--annotate", out, "--anonymize", "all")[0] == 0
    find = Mtcnn()
    assert len(find(cv2.imread(str(portrait))[..., ::-1].copy())) == 1
    assert len(find(cv2.imread(str(out / "portrait-mien.png"))[..., ::-1].copy())) == 0
    with Film(out / "hurt-mien.mp4") as film:
        assert [len(find(frame.picture)) for frame in film if frame.picture is not None] == [0] * 12


@pytest.mark.parametrize(
    ("options", "stops"), [([], (0, 1, 7, 13)), (["--detect-every", "5"], (8,)), (["--every", "3"], (3,))]
)
def test_resume_neither_loses_nor_doubles_a_row(
    portrait: Path, clip: Path, wall: Path, tmp_path: Path, options: list[str], stops: tuple[int, ...]
) -> None:
    whole = tmp_path / "whole.csv"
    mien("analyze", portrait, clip, wall, "--out", whole, *options)
    script = (
        "import os, itertools\n"
        "from mien.pipeline import batch\n"
        "step = batch.Batch._give\n"
        "count = itertools.count()\n"
        "def give(self, faces):\n"
        "    if next(count) == STOP: os._exit(9)\n"
        "    step(self, faces)\n"
        "batch.Batch._give = give\n"
        "from mien.cli.app import run\n"
        "run()\n"
    )
    for stop in stops:
        cut = tmp_path / f"cut{stop}.csv"
        code = script.replace("STOP", str(stop))
        arguments = ["analyze", str(portrait), str(clip), str(wall), "--out", str(cut), *options]
        killed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
        assert killed.returncode == 9, killed.stderr
        assert not cut.exists(), "an unfinished file does not bear the finished name"
        assert mien(*arguments, "--resume")[0] == 0
        assert cut.read_bytes() == whole.read_bytes()


def test_ctrl_c_leaves_whole_rows_and_resume_goes_on(portrait: Path, clip: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    mien("analyze", portrait, clip, "--out", whole)
    script = (
        "import os, itertools, signal\nfrom mien.pipeline import batch\n"
        "step, count = batch.Batch._give, itertools.count()\n"
        "def give(self, faces):\n"
        "    step(self, faces)\n"
        "    if next(count) == 6: os.kill(os.getpid(), signal.SIGINT)\n"
        "batch.Batch._give = give\nfrom mien.cli.app import run\nrun()\n"
    )
    arguments = ["analyze", str(portrait), str(clip), "--out", str(cut)]
    stopped = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert "--resume" in stopped.stderr
    kept = read_faces(f"{cut}.part.csv")
    assert kept == read_faces(whole)[: len(kept)]
    assert len(kept) >= 7
    assert mien(*arguments, "--resume")[0] == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_resume_with_other_settings_is_refused(portrait: Path, tmp_path: Path) -> None:
    target = tmp_path / "f.csv"
    code = (
        "import os\nfrom mien.pipeline import batch\nbatch.Batch._give = lambda *a: os._exit(9)\n"
        "from mien.cli.app import run\nrun()"
    )
    subprocess.run(
        [sys.executable, "-c", code, "analyze", str(portrait), "--out", str(target)], capture_output=True, check=False
    )
    status, _, err = mien("analyze", portrait, "--out", target, "--resume", "--min-score", "0.5")
    assert status == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "hapy"], "hapy"),
        (["--labels", "nine"], "nine"),
        (["--detector", "yolo"], "yolo"),
        (["--model", "vgg"], "vgg"),
        (["--min-score", "60"], "between 0 and 1"),
        (["--out", "faces.xlsx"], "xlsx"),
        (["--out", "no/such/folder.csv"], "no/such"),
        (["--resume"], "--out"),
        (["--layout", "film"], "--out"),
        (["--seconds", "3"], "--seconds"),
        (["--anonymize", "all"], "--annotate"),
        (["--anonymize", "others", "--annotate", "out"], "mien film annotate"),
        (["--anonymize", "all", "--annotate", "out", "--best-only"], "would not be covered"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(portrait: Path, arguments: list[str], words: str) -> None:
    code, _, err = mien("analyze", portrait, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_when_a_file_cannot_grow_whole_rows_are_kept_and_json_stays_whole(clip: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    mien("analyze", clip, "--out", whole)
    script = (
        "import resource, signal\nfrom mien.cli.app import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\nrun()\n"
    )
    arguments = ["analyze", str(clip), "--out", str(cut)]
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--json"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    assert [f["source"] for f in json.loads(ran.stdout)["failures"]] == [str(cut)]
    kept = read_faces(f"{cut}.part.csv")
    assert 0 < len(kept) < 12
    assert kept == read_faces(whole)[: len(kept)]
    assert mien(*arguments, "--resume")[0] == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_only_keeps_the_rows_that_name_it(portrait: Path, wall: Path) -> None:
    faces = json.loads(mien("analyze", portrait, wall, "--only", "Happiness", "--json")[1])["faces"]
    assert [f["top"] for f in faces] == ["happy"]
    assert json.loads(mien("analyze", portrait, "--only", "sad", "--json")[1])["faces"] == []


def test_a_camera_that_is_not_there_is_one_line() -> None:
    code, _, err = mien("analyze", "7", "--seconds", "1")
    assert code == 2
    assert len(err.strip().splitlines()) == 1


def test_demo_says_where_it_wrote(tmp_path: Path) -> None:
    code, out, err = mien("demo", "--to", tmp_path / "demo")
    assert code == 0
    assert out.count("happy") >= 1
    for picture in (tmp_path / "demo").iterdir():
        assert picture.name in err


def test_models_lists_every_card_and_shows_one_whole() -> None:
    code, out, _ = mien("models", "--json")
    assert code == 0
    cards = {c["name"]: c for c in json.loads(out)["models"]}
    assert {"expression", "mtcnn-pnet", "haar-face"} <= set(cards)
    for name, card in cards.items():
        text = " ".join(mien("models", name)[1].split())
        assert card["sha256"][:32] in text.replace(" ", "")
    assert "expression" in mien("models")[1]


def test_models_of_an_unknown_name() -> None:
    code, _, err = mien("models", "vgg")
    assert code == 2
    assert "vgg" in err


def test_the_command_is_installed() -> None:
    ran = subprocess.run([sys.executable, "-m", "mien", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("mien ")


def test_a_command_loads_no_other_command() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from mien.cli.app import app; "
        "CliRunner().invoke(app, ['analyze', '--help']); "
        "print(sorted(n for n in sys.modules if n.startswith(('mien.cli.', 'mien.evaluate', 'mien.train'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mien.cli.analyze', 'mien.cli.app', 'mien.cli.console', 'mien.cli.opening']"
