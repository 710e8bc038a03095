"""The client against the real service: the same faces as the library, tokens, TLS, many threads."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import make_film, numbered
from secured import secured
from serving import face, fake_analyzer, plain, settings
from skimage import data

import mien
from mien.client import Client, Job, ServiceError
from mien.client.wire import Wire
from mien.errors import DecodeError
from mien.pipeline.analyzer import Analyzer, Settings
from mien.results.faces import Faces
from mien.serve.start import running
from mien.serve.tokens import Role, make_token


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state = tmp_path_factory.mktemp("state")
    with running(settings(state, port=0), analyzer=fake_analyzer()) as address, Client(address) as held:
        yield held


def files(folder: Path) -> list[Path]:
    made = {"happy.png": face(red=220), "none.png": plain(), "neutral.jpg": face(red=30, ending=".jpg")}
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in made]


def library(paths: list[Path]) -> Faces:
    reader = fake_analyzer()
    return Faces.concat(reader.picture(mien.read_picture(p), source=str(p)) for p in paths)


def test_the_faces_are_those_of_the_library_to_the_last_bit(service: Client, tmp_path: Path) -> None:
    paths = files(tmp_path)
    expected = library(paths)
    assert service.analyze(paths) == expected
    assert service.analyze(paths, at_once=1) == expected
    assert Faces.concat(service.analyze(p) for p in paths) == expected
    assert service.analyze([p.read_bytes() for p in paths]) == expected.with_(
        sources=tuple(f"picture {n}" for n in range(3))
    )


def test_an_array_gives_what_the_library_gives(service: Client) -> None:
    array = mien.read_picture(face())
    assert service.analyze(array) == fake_analyzer().picture(array, source="picture 0")


def test_real_models_give_what_the_library_gives(tmp_path: Path) -> None:
    picture = np.ascontiguousarray(data.astronaut()[:320, 80:400])
    chosen = settings(tmp_path, port=0, analysis=Settings(threads=1))
    with running(chosen, run=False) as address, Client(address) as service:
        found = service.analyze(picture, labels="seven", min_score=0.3)
    assert found == mien.analyze(picture, labels="seven", min_score=0.3, threads=1)
    assert found.top.tolist() == ["happy"]


def test_options_are_those_of_the_library(service: Client) -> None:
    faces = service.analyze(face(red=160), labels="three", min_score=0.99, best_only=True)
    assert faces.labels.name == "three"
    assert faces.reason_words == ["low_score"]
    with pytest.raises(ServiceError, match="nine") as caught:
        service.analyze(face(), labels="nine")
    assert (caught.value.status, caught.value.code) == (422, "unknown_label")


@pytest.mark.parametrize("pictures", [[b"no picture"], [face(), b"no picture"], [face(), face()[:300]]])
def test_what_is_no_picture_is_an_error_of_the_library(service: Client, pictures: list[bytes]) -> None:
    with pytest.raises(DecodeError, match=f"picture {len(pictures) - 1}"):
        service.analyze(pictures)


def test_the_annotated_picture_is_a_jpeg_of_the_same_size(service: Client) -> None:
    assert mien.read_picture(service.annotated(face())).shape == (120, 160, 3)


def test_many_threads_share_a_client(service: Client) -> None:
    reds = [30 + 10 * n for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda red: service.analyze(face(red=red)), reds))
    happy = [float(f.expression[0, 3]) for f in found]
    assert happy == sorted(happy)
    assert len(set(happy)) == len(reds)


def test_a_film_goes_through_all_of_its_life(service: Client, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", numbered(6))
    told: list[Job] = []
    job = service.wait(service.submit(film, every=2, annotate=False), tell=told.append)
    assert (job.state, job.name, job.error, told[-1]) == ("done", "film.mp4", None, job)
    faces = service.faces(job)
    assert faces.frame.tolist() == [0, 2, 4]
    assert faces.sources == ("film.mp4",)
    assert {r.name for r in job.results} >= {"faces.csv", "timeline.json"}
    assert "annotated.mp4" not in {r.name for r in job.results}
    for result in job.results:
        assert service.results(job, result.name, tmp_path).stat().st_size == result.bytes
    assert job in service.jobs()
    service.delete(job)
    for call in (service.job, service.faces, service.delete):
        with pytest.raises(ServiceError) as caught:
            call(job)
        assert (caught.value.status, caught.value.code) == (404, "no_job")


def test_what_is_no_film_is_refused_while_it_is_sent(service: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"no film at all\n" * 2_000_000)
    with pytest.raises(ServiceError, match="not a film") as caught:
        service.submit(path)
    assert (caught.value.status, caught.value.code) == (415, "not_a_film")


def test_the_service_tells_of_itself(service: Client) -> None:
    assert service.health() == {"status": "ok"}
    assert [m["name"] for m in service.models()["models"]]


def test_a_rate_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, line = make_token("anna", Role.USER, 2)
    file = tmp_path / "tokens.txt"
    file.write_text(line, encoding="utf-8")
    file.chmod(0o600)
    pauses: list[float] = []
    monkeypatch.setattr(Wire, "pause", lambda _, seconds: pauses.append(seconds))
    chosen = settings(tmp_path / "state", port=0, token_file=file)
    with (
        running(chosen, analyzer=fake_analyzer(), run=False) as address,
        Client(address, token=token, patience=40) as service,
    ):
        service.models()
        service.models()
        with pytest.raises(ServiceError) as caught:
            service.models()
    assert (caught.value.status, caught.value.code) == (429, "rate")
    assert pauses
    assert sum(pauses) <= 40
    assert all(20 <= pause <= 31 for pause in pauses)


def test_a_certificate_of_its_own_is_trusted_by_its_file_alone(tmp_path: Path) -> None:
    with secured(settings(tmp_path), fake_analyzer()) as address:
        with Client(address, verify=tmp_path / "tls" / "certificate.pem") as trusting:
            # From Python 3.13 on, certificates are looked at more strictly; older ones can be told to.
            trusting._wire._trust.verify_flags |= ssl.VERIFY_X509_STRICT  # type: ignore[union-attr]  # it is https
            assert trusting.analyze([face(), plain()]).found.tolist() == [True, False]
            with pytest.raises(ServiceError, match="not a film"):
                trusting.submit(b"no film" * 1_000_000)
        with Client(address) as strict, pytest.raises(ServiceError, match="not trusted") as caught:
            strict.health()
        assert caught.value.code == "certificate"


def test_an_analyzer_with_options_of_its_own_is_the_default(tmp_path: Path) -> None:
    base = fake_analyzer()
    reader = Analyzer(replace(base.settings, labels="five"), find=base._find, read=base._read)
    chosen = settings(tmp_path, port=0, analysis=replace(Settings(threads=1), labels="five"))
    with running(chosen, analyzer=reader, run=False) as address, Client(address) as service:
        assert service.analyze(face()).labels.name == "five"
