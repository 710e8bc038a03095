import contextlib
import dataclasses
import hashlib
import http.server
import json
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

import mien.zoo.store as store
from mien.errors import IntegrityError, ModelError, UnknownModelError
from mien.models.mtcnn import _arrays
from mien.zoo import catalog
from mien.zoo.card import ModelCard

GOOD = b"weights" * 40_000


def make_card(file, content=GOOD, **other):
    facts = {"name": "m", "task": "t", "file": file, "licence": "l", "origin": "o", "data": "d", "size": len(content)}
    return ModelCard(**facts, sha256=hashlib.sha256(content).hexdigest(), **other)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = {"/good": GOOD, "/wrong": GOOD[:-1] + b"X", "/long": GOOD * 50}.get(self.path)
        self.send_response(200 if body else 404)
        # Without a length, the end of the connection is the end of the file.
        if self.path != "/long":
            self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_download_is_verified_kept_and_not_repeated(server, cache):
    wanted = make_card("sub/m.onnx", url=f"{server.address}/good")
    file = store.locate(wanted)
    assert file == cache / "sub" / "m.onnx"
    assert file.read_bytes() == GOOD
    assert store.locate(wanted) == file
    assert server.asked == ["/good"]
    assert [f.name for f in file.parent.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("path", ["/wrong", "/long"])
def test_wrong_bytes_are_refused_and_leave_nothing(server, cache, path):
    wanted = make_card("m.onnx", url=server.address + path)
    with pytest.raises(IntegrityError, match=wanted.sha256) as caught:
        store.locate(wanted)
    got = hashlib.sha256(GOOD[:-1] + b"X").hexdigest()
    assert path == "/long" or got in str(caught.value)
    assert list(cache.iterdir()) == []


def test_an_answer_that_is_no_file_says_what_to_do(server, cache):
    with pytest.raises(ModelError, match=r"404.*put the file at .*m\.onnx") as caught:
        store.locate(make_card("m.onnx", url=f"{server.address}/none"))
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_refused_connection_says_what_to_do(cache):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with pytest.raises(ModelError, match=r"cannot download http.*no network, put the file at"):
        store.locate(make_card("m.onnx", url=f"http://127.0.0.1:{port}/good"))


def test_only_web_addresses_are_fetched(tmp_path):
    (tmp_path / "m").write_bytes(GOOD)
    with pytest.raises(ModelError, match="neither https nor http"):
        store.locate(make_card("m.onnx", url=(tmp_path / "m").as_uri()))


def test_several_threads_download_once(server, cache):
    wanted, found = make_card("m.onnx", url=f"{server.address}/good"), []
    workers = [threading.Thread(target=lambda: found.append(store.locate(wanted))) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert found == [cache / "m.onnx"] * 4
    assert server.asked == ["/good"]


def test_a_file_in_the_cache_is_hashed_once_and_again_when_it_changed(cache, monkeypatch):
    cache.mkdir()
    (cache / "m.onnx").write_bytes(GOOD)
    wanted, hashed = make_card("m.onnx"), []
    real = store._sha256
    monkeypatch.setattr(store, "_sha256", lambda *a, **k: hashed.append(1) or real(*a, **k))
    assert store.locate(wanted) == store.locate(wanted) == cache / "m.onnx"
    assert len(hashed) == 1
    (cache / "m.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError) as caught:
        store.locate(wanted)
    assert wanted.sha256 in str(caught.value)
    assert hashlib.sha256(b"other").hexdigest() in str(caught.value)


def test_a_file_that_is_nowhere_names_the_place(cache):
    with pytest.raises(ModelError, match=r"neither in the package nor at .*cache.m\.onnx"):
        store.locate(make_card("m.onnx"))


@pytest.mark.parametrize("file", ["../m.onnx", "/etc/hostname", "cv2:../m", "cv2:/m"])
def test_a_card_cannot_point_outside(file):
    with pytest.raises(ModelError, match="relative path"):
        store.locate(make_card(file))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("nosuchpackage:m", "nosuchpackage is not installed"),
        ("cv2:data/m", "cv2 has no file data/m"),
        ("a b:m", "not inst"),
    ],
)
def test_a_missing_dependency_is_named(file, message):
    with pytest.raises(ModelError, match=f"{message}.*pip install"):
        store.locate(make_card(file))


def test_a_file_of_the_package_comes_first(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "_ROOM", tmp_path / "zoo")
    for folder in (tmp_path / "zoo", cache):
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "m.onnx").write_bytes(GOOD)
    assert store.locate(make_card("weights/m.onnx")) == tmp_path / "zoo" / "weights" / "m.onnx"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/mien"),
        ("linux", {}, "/home/u/.cache/mien"),
        ("darwin", {}, "/home/u/Library/Caches/mien"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/mien/cache"),
        ("linux", {"MIEN_CACHE": "/own"}, "/own"),
    ],
)
def test_the_cache_folder_follows_the_platform_when_asked(monkeypatch, platform, variables, expected):
    for name in ("MIEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/u"))
    assert store.cache_folder() == Path(expected)


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_every_card_names_a_file_that_is_there(name):
    wanted = catalog.card(name)
    file = store.locate(wanted)
    assert wanted.name == name
    assert file.stat().st_size == wanted.size
    assert len(wanted.sha256) == 64
    assert all((wanted.licence, wanted.origin, wanted.data, wanted.summary, wanted.input))
    json.dumps(wanted.as_dict())


@pytest.mark.parametrize("name", ["mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet"])
def test_parameters_are_counted_right(name):
    wanted = catalog.card(name)
    assert sum(a.size for a in _arrays(store.locate(wanted))) == wanted.parameters


def test_finding_the_weights_of_mtcnn_does_not_import_it():
    store.locate(catalog.card("mtcnn-pnet"))
    assert "mtcnn" not in sys.modules


def test_a_card_beside_bundled_weights_is_found_when_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "_WEIGHTS", tmp_path)
    assert catalog.names() == tuple(catalog.CATALOG)
    with pytest.raises(UnknownModelError, match=r"unknown model 'expression'.*mtcnn-pnet"):
        catalog.card("expression")
    ours = dataclasses.replace(make_card("weights/expression.onnx"), name="expression")
    (tmp_path / "expression.card.json").write_text(json.dumps(ours.as_dict()), encoding="utf-8")
    assert catalog.names() == ("expression", *catalog.CATALOG)
    assert catalog.card("expression") == ours
    (tmp_path / "broken.card.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not a model card"):
        catalog.card("broken")


def test_the_cache_is_not_touched_by_looking(cache):
    store.locate(catalog.card("haar-eye"))
    assert not os.path.lexists(cache)
