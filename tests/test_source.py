"""What a user names becomes sources, and what cannot be used becomes a line."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import make_film, numbered

from mien.errors import DecodeError, MienError, SourceError, SourceNotFoundError
from mien.media.source import Kind, Source, find, is_url, sniff

PICTURE = np.zeros((4, 4, 3), np.uint8)


def picture(path: Path, ending: str = ".png") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(ending, PICTURE)[1].tobytes())
    return path


def only_error(given: str | Path) -> MienError:
    sources, errors = find([given])
    assert sources == []
    ((name, error),) = errors
    assert name == str(given)
    assert "\n" not in str(error)
    return error


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif"])
def test_pictures_are_known_by_their_first_bytes(ending: str) -> None:
    assert sniff(cv2.imencode(ending, PICTURE)[1].tobytes()[:32]) is Kind.PICTURE


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm", "avi", "ts", "mpg", "ogg", "flv", "wmv", "m2ts"])
def test_films_are_known_by_their_first_bytes(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"film.{ending}"
    codecs = {"webm": "libvpx", "mpg": "mpeg2video", "ogg": "libvpx", "flv": "flv", "wmv": "wmv2"}
    make_film(path, numbered(4), codec=codecs.get(ending))
    assert sniff(path.read_bytes()[:4096]) is Kind.FILM


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"G",
        b"hello world",
        b"BMW is a maker of cars, not a picture",
        b"GGGGGGGG and nothing else" * 20,
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypheic" + bytes(12),
        b"\0\0\0\x1cftypavif" + bytes(12),
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\x7fELF",
    ],
)
def test_other_files_are_neither(head: bytes) -> None:
    assert sniff(head) is None


def test_the_content_counts_not_the_ending(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", numbered(2)).rename(tmp_path / "film.jpg")
    still = picture(tmp_path / "still.mp4")
    sources, errors = find([film, str(still)])
    assert errors == []
    assert sources == [Source(str(film), Kind.FILM, film), Source(str(still), Kind.PICTURE, still)]


def test_a_text_named_jpg(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(b"hello world")
    error = only_error(path)
    assert isinstance(error, DecodeError)
    assert str(error) == f"{path}: not a picture or a film (it begins with b'hello w')"


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.touch()
    error = only_error(path)
    assert isinstance(error, SourceError)
    assert str(error) == f"{path}: the file is empty"


def test_a_telephone_picture_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    assert "save it as JPEG or PNG" in str(only_error(path))


@pytest.mark.parametrize("given", ["gone.jpg", "no/such/folder", "a\0b", "y" * 5000, "ftp://host/film.mp4", ""])
def test_missing_files(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = only_error(given)
    assert isinstance(error, SourceNotFoundError)
    assert "no such file" in str(error)
    assert len(str(error)) < 200


def test_a_link_that_leads_nowhere_and_a_pipe(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.jpg", tmp_path / "pipe"
    link.symlink_to(tmp_path / "gone")
    os.mkfifo(pipe)
    assert "leads nowhere" in str(only_error(link))
    assert "not a file or folder" in str(only_error(pipe))


def test_folders_are_sorted_and_passed_through(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "sub/c.png", "sub/deep/d.png", ".hidden.png", ".cache/e.png"):
        picture(tmp_path / name)
    make_film(tmp_path / "sub" / "a.mp4", numbered(2))
    (tmp_path / "readme.txt").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    sources, errors = find([tmp_path])
    assert errors == []
    names = [str(Path(s.name).relative_to(tmp_path)) for s in sources]
    assert names == ["a.png", "b.png", "sub/a.mp4", "sub/c.png", "sub/deep/d.png"]
    assert [s.kind for s in sources] == [Kind.PICTURE, Kind.PICTURE, Kind.FILM, Kind.PICTURE, Kind.PICTURE]
    flat, _ = find([tmp_path], recursive=False)
    assert [Path(s.name).name for s in flat] == ["a.png", "b.png"]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("not a picture")
    assert "no picture or film in this folder" in str(only_error(tmp_path))


def test_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.jpg", "c.png", ".d.jpg", "sub/e.jpg"):
        picture(tmp_path / name)
    assert [s.name for s in find(["*.jpg"])[0]] == ["a.jpg", "b.jpg"]
    assert [s.name for s in find(["**/*.jpg"])[0]] == ["a.jpg", "b.jpg", "sub/e.jpg"]
    assert [s.name for s in find([f"{tmp_path}/?.png"])[0]] == [f"{tmp_path}/c.png"]
    assert "no file fits this pattern" in str(only_error("*.gif"))


def test_a_glob_reports_what_it_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"hello world")
    sources, errors = find(["*.jpg"])
    assert [s.name for s in sources] == ["a.jpg"]
    assert [name for name, _ in errors] == ["b.jpg"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    path = picture(tmp_path / "party [1].png")
    assert [s.place for s in find([str(path)])[0]] == [path]


def test_cameras_and_addresses() -> None:
    given = ["0", "12", "rtsp://host/live", "HTTP://host/film.mp4", "https://host/x", "rtmp://h/a", "udp://@:1234"]
    sources, errors = find(given)
    assert errors == []
    assert [s.kind for s in sources] == [Kind.CAMERA] * 2 + [Kind.STREAM] * 5
    assert [s.place for s in sources] == [0, 12, *given[2:]]
    assert not is_url("ftp://host/film.mp4")


def test_a_file_named_like_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "0")
    assert [s.kind for s in find(["./0", Path("0"), "0"])[0]] == [Kind.PICTURE, Kind.PICTURE, Kind.CAMERA]


def test_order_errors_and_doubles(tmp_path: Path) -> None:
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    sources, errors = find([b, "gone.jpg", a, tmp_path, b])
    assert [s.place for s in sources] == [b, a]
    assert [name for name, _ in errors] == ["gone.jpg"]
