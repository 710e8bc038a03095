"""The real server in a thread: connections that stall, state and port, TLS, settings in words, an end in order."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from urllib.request import urlopen

import pytest
from cryptography import x509
from films import make_film, numbered
from hypothesis import given
from hypothesis import strategies as st
from serving import fake_analyzer, settings
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from mien.errors import MienError, MissingExtraError, OptionError, OutputError, UnknownModelError
from mien.pipeline.analyzer import Settings
from mien.serve import connection, start, tls
from mien.serve.environment import OPTIONS, count, duration, read, size
from mien.serve.logs import JsonLines
from mien.serve.settings import Limits, ServeSettings
from mien.serve.start import bind, running


def opened(address: str, **options):
    return urlopen(address, timeout=10, **options)  # noqa: S310  # our own


def serving(state: Path, **changes):
    return running(settings(state, port=0, **changes), analyzer=fake_analyzer(), run=False)


def place(address: str) -> tuple[str, int]:
    host, port = address.partition("://")[2].rsplit(":", 1)
    return host, int(port)


def dialogue(address: str, *parts: bytes) -> tuple[bytes, float]:
    """Send what is given, read until the server closes; the answer and the seconds."""
    begun = monotonic()
    with socket.create_connection(place(address), timeout=10) as wire:
        for part in parts:
            wire.sendall(part)
        answer = b""
        while more := wire.recv(65536):
            answer += more
    return answer, monotonic() - begun


# Connections


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 408, "head_too_slow"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127", 408, "head_too_slow"),
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400, "not_http"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000, 431, "head_too_large"),
    ],
)
def test_what_is_no_request_is_answered_in_the_one_shape_and_closed(tmp_path, sent, status, code):
    with serving(tmp_path, limits={"idle_seconds": 0.3}) as address:
        answer, seconds = dialogue(address, sent)
        assert json.loads(opened(f"{address}/healthz").read()) == {"status": "ok"}
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert error["code"] == code
    assert set(error) == {"code", "message", "hint", "request"}
    assert seconds < 3


def test_a_head_that_drips_has_one_time_for_all_of_it(tmp_path):
    with serving(tmp_path, limits={"idle_seconds": 0.4}) as address, socket.create_connection(place(address)) as wire:
        wire.settimeout(0.05)
        begun, answer = monotonic(), b""
        for byte in b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"a" * 200:
            try:
                wire.sendall(bytes([byte]))
                answer += wire.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            if answer:
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert 0.35 < monotonic() - begun < 3


def test_a_kept_connection_is_given_the_same_time_for_each_head(tmp_path):
    with serving(tmp_path, limits={"idle_seconds": 0.3}) as address, closing(HTTPConnection(*place(address))) as wire:
        for _ in range(3):
            wire.request("GET", "/healthz")
            assert wire.getresponse().read() == b'{"status":"ok"}'
        wire.sock.settimeout(10)
        wire.sock.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        assert wire.sock.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_the_server_does_not_say_what_it_is(tmp_path):
    with serving(tmp_path) as address, opened(f"{address}/healthz") as answer:
        assert "server" not in answer.headers
        assert "date" in answer.headers


def test_past_the_most_connections_a_new_one_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "CONNECTIONS", 2)
    with serving(tmp_path) as address:
        held = [HTTPConnection(*place(address)) for _ in range(2)]
        for wire in held:
            wire.request("GET", "/healthz")
            assert wire.getresponse().read() == b'{"status":"ok"}'
        answer, _ = dialogue(address)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in answer
        for wire in held:
            wire.close()


def test_a_reader_that_takes_nothing_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "STALLED", 0.3)
    request = b"GET /v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with serving(tmp_path) as address, closing(socket.socket()) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(place(address))
        wire.settimeout(10)
        begun = monotonic()
        # What is asked for is more than all buffers between hold, so that sending gets stuck, too, until it is cut.
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):  # noqa: PT012  # one of many calls fails
            while monotonic() - begun < 10:
                wire.sendall(request)


def test_a_message_of_a_camera_over_the_limit_closes_the_socket(tmp_path):
    with serving(tmp_path, limits={"frame_bytes": 10_000}) as address:
        with connect(f"{address.replace('http', 'ws')}/v1/stream", compression=None) as camera:
            assert json.loads(camera.recv(timeout=10))["type"] == "ready"
            with pytest.raises(ConnectionClosedError) as closed:  # noqa: PT012  # the answer comes when it comes
                camera.send(bytes(20_000))
                while True:
                    camera.recv(timeout=10)
        assert closed.value.rcvd.code == 1009


# The end


def test_a_watcher_of_a_film_does_not_hold_up_the_end(tmp_path):
    film = make_film(tmp_path / "film.mp4", numbered(4)).read_bytes()
    with serving(tmp_path / "state") as address:
        wire = HTTPConnection(*place(address), timeout=20)
        wire.request("POST", "/v1/films", film, {"Content-Type": "video/mp4"})
        job = json.loads(wire.getresponse().read())
        wire.request("GET", f"/v1/jobs/{job['id']}/events")
        answer = wire.getresponse()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.readline()
        begun = monotonic()
    assert monotonic() - begun < 5
    while answer.readline():
        pass
    wire.close()


def test_an_answer_in_work_is_finished(tmp_path):
    """A body that is still coming when the end is asked for gets its answer."""
    with serving(tmp_path) as address:
        wire = socket.create_connection(place(address), timeout=10)
        wire.sendall(
            b"POST /v1/policy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert wire.recv(1000).startswith(b"HTTP/1.1 100 ")
        later = threading.Timer(0.3, wire.sendall, (b"{}",))
        later.start()
    answer = b""
    while more := wire.recv(65536):
        answer += more
    later.join()
    wire.close()
    assert answer.startswith(b"HTTP/1.1 4"), answer


# State and port


def test_the_state_is_its_owners_alone_and_has_one_service(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    with serving(state):
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        begun = monotonic()
        with pytest.raises(OptionError, match="another service keeps its state"), serving(state):
            pass
        assert monotonic() - begun < 5
    with serving(state) as address:
        assert opened(f"{address}/healthz").status == 200


def test_a_state_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--state"), serving(tmp_path / "file" / "state"):
        pass


def test_a_port_that_is_taken_is_said():
    with closing(bind("127.0.0.1", 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=f"port {port} .*--port"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.7", "no.such.name.invalid"])
def test_an_address_of_another_machine_is_said(host):
    with pytest.raises(OptionError, match=host):
        bind(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_name_or_an_address_can_be_listened_at(host):
    with closing(bind(host, 0)) as taken:
        assert taken.getsockname()[1] > 0


def test_models_that_cannot_be_loaded_are_said_and_everything_is_let_go(tmp_path):
    bad = settings(tmp_path, port=0, analysis=Settings(model="nope", threads=1))
    with pytest.raises(UnknownModelError, match="'nope'"), running(bad, run=False):
        pass
    with serving(tmp_path) as address:
        assert opened(f"{address}/readyz").status == 200


def test_the_extra_is_asked_for(monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(MissingExtraError, match=r"uvicorn.*mien\[serve\]"):
        start.needs_extra()


# TLS


def certificate(files: tuple[Path, Path]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files[0].read_bytes())


def test_https_with_a_certificate_of_its_own(tmp_path):
    with serving(tmp_path, tls="self-signed") as address:
        assert address.startswith("https://127.0.0.1:")
        file = tmp_path / "tls" / "certificate.pem"
        trusting = ssl.create_default_context(cafile=str(file))
        assert opened(f"{address}/healthz", context=trusting).status == 200
        wire = socket.create_connection(place(address))
        with trusting.wrap_socket(wire, server_hostname="localhost") as secure:
            raw = secure.getpeercert(binary_form=True)
            assert secure.version() in {"TLSv1.2", "TLSv1.3"}
    digest = sha256(raw).hexdigest().upper()
    assert tls.fingerprint(file) == ":".join(digest[i : i + 2] for i in range(0, 64, 2))
    assert stat.S_IMODE((tmp_path / "tls" / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_a_handshake_that_does_not_come_is_cut(tmp_path):
    with serving(tmp_path, tls="self-signed", limits={"idle_seconds": 0.3}) as address:
        answer, seconds = dialogue(address, b"\x16\x03\x01")
    assert answer == b""
    assert seconds < 5


def test_the_certificate_is_kept_until_it_is_about_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tls, "own_addresses", lambda: ("192.0.2.9", "127.0.0.1", "::1"))
    chosen = settings(tmp_path, tls="self-signed", host="0.0.0.0", hosts=("faces.example",))  # noqa: S104  # not bound
    now = datetime(2026, 3, 1, tzinfo=UTC)
    files = tls.certificate_files(chosen, now=lambda: now)
    first = certificate(files)
    assert first.not_valid_after_utc - first.not_valid_before_utc <= timedelta(days=397)
    carried = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "faces.example"} <= set(carried.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1", "192.0.2.9"} <= set(map(str, carried.get_values_for_type(x509.IPAddress)))
    for days, same in ((0, True), (300, True), (380, False)):
        later = now + timedelta(days=days)
        found = certificate(tls.certificate_files(chosen, now=lambda: later))  # noqa: B023  # called at once
        assert (found.serial_number == first.serial_number) is same


def test_a_new_name_or_a_spoilt_file_makes_a_new_certificate(tmp_path):
    chosen = settings(tmp_path, tls="self-signed")
    first = certificate(tls.certificate_files(chosen)).serial_number
    named = certificate(tls.certificate_files(replace(chosen, origin="https://new.example:8443/"))).serial_number
    assert named != first
    (tmp_path / "tls" / "key.pem").write_text("spoilt")
    assert certificate(tls.certificate_files(chosen)).serial_number not in {first, named}


def test_files_that_are_no_certificate_are_said(tmp_path):
    (tmp_path / "bad.pem").write_text("nothing")
    for names in (("missing.pem", "missing.pem"), ("bad.pem", "bad.pem")):
        files = tuple(tmp_path / n for n in names)
        with pytest.raises(OptionError, match="not a certificate"):
            tls.certificate_files(settings(tmp_path, tls=files))
    with pytest.raises(OptionError, match="self-signed"):
        tls.certificate_files(settings(tmp_path, tls="on"))
    assert tls.certificate_files(settings(tmp_path)) is None


# Settings in words


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800), ("1.5h", 5400)]
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("32MB", 32_000_000), ("2GB", 2 * 10**9), ("2GiB", 2**31), ("1 kib", 1024)]
)
def test_sizes(text, number):
    assert size(text) == number


@pytest.mark.parametrize("how", [duration, size, count])
@pytest.mark.parametrize("text", ["", "-1", "7 weeks", "1e9", "nan", "inf", "٣", "1.5.5", "9" * 20, "0x10"])
def test_what_is_none_of_them_is_said(how, text):
    with pytest.raises(OptionError, match="not a"):
        how(text)


@given(st.floats(0, 1e9).map(lambda x: round(x, 3)), st.sampled_from(["s", "m", "h", "d"]))
def test_a_duration_comes_back(number, unit):
    each = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert duration(f"{number:.3f}{unit}") == pytest.approx(number * each)


def test_a_flag_goes_before_the_environment_and_that_before_the_default():
    environ = {"MIEN_PORT": "9000", "MIEN_KEEP": "24h", "MIEN_PURPOSE": "", "MIEN_FETCH": "yes", "MIEN_LOG": "json"}
    chosen, log = read({"port": "9001", "keep": None}, environ)
    assert (chosen.port, chosen.keep, chosen.purpose, chosen.fetch, log) == (9001, 86400, None, True, "json")
    assert chosen.host == "127.0.0.1"
    assert chosen.workers == 1


def test_every_option_has_its_variable():
    said = {
        "MIEN_HOST": "192.0.2.1",
        "MIEN_PORT": "1",
        "MIEN_WORKERS": "2",
        "MIEN_TOKEN_FILE": "t",
        "MIEN_TLS": "c.pem",
        "MIEN_TLS_KEY": "k.pem",
        "MIEN_STATE": "s",
        "MIEN_KEEP": "1m",
        "MIEN_PURPOSE": "research",
        "MIEN_ORIGIN": "https://a.example",
        "MIEN_HOSTS": "a.example, b.example",
        "MIEN_FETCH": "on",
        "MIEN_PROXY": "true",
        "MIEN_THREADS": "3",
        "MIEN_MODEL": "expression-int8",
        "MIEN_DETECTOR": "haar",
        "MIEN_MIN_FACE": "40",
        "MIEN_LIMITS": "pixels=20M,body_bytes=16MB hand_over=1h,least_rate=2kB",
        "MIEN_LOG": "json",
    }
    assert {o.variable for o in OPTIONS.values()} == set(said)
    chosen, log = read({}, said)
    assert chosen == ServeSettings(
        host="192.0.2.1",
        port=1,
        workers=2,
        token_file=Path("t"),
        tls=(Path("c.pem"), Path("k.pem")),
        state=Path("s"),
        keep=60,
        purpose="research",
        origin="https://a.example",
        hosts=("a.example", "b.example"),
        fetch=True,
        proxy=True,
        threads=3,
        analysis=Settings(model="expression-int8", detector="haar", min_face=40, threads=1),
        limits=Limits(pixels=20_000_000, body_bytes=16_000_000, hand_over=3600, least_rate=2000),
    )
    assert log == "json"


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"port": "http"}, "--port: 'http'"),
        ({"port": "70000"}, "port is 70000"),
        ({"keep": "soon"}, "--keep: 'soon'"),
        ({"limits": "pixel=3"}, "limit 'pixel=3'"),
        ({"limits": "pixels"}, "limit 'pixels'"),
        ({"limits": "pixels=many"}, "limit pixels: 'many'"),
        ({"limits": "waiting=0"}, "limit waiting is 0"),
        ({"limits": "waiting=1.5"}, "whole number"),
        ({"tls": "cert.pem"}, "--tls-key"),
        ({"tls_key": "key.pem"}, "--tls"),
        ({"log": "xml"}, "text or json"),
        ({"detector": "eyes"}, "detector is 'eyes'"),
        ({"fetch": "maybe"}, "--fetch: 'maybe'"),
    ],
)
def test_what_cannot_be_used_is_said_with_where_it_was_said(given_, message):
    with pytest.raises(MienError) as error:
        read(given_, {})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_variable_is_said_by_its_name():
    with pytest.raises(OptionError, match="MIEN_KEEP: 'soon'"):
        read({}, {"MIEN_KEEP": "soon"})


def test_several_workers_share_the_processors():
    one, _ = read({}, {})
    four, _ = read({"workers": "4"}, {})
    assert four.threads == max(1, one.threads // 4)


# The log


def test_the_log_as_json_is_one_object_a_line():
    import logging

    record = logging.makeLogRecord({"msg": "answered %d", "args": (200,), "levelname": "INFO", "route": "/a\nb"})
    line = JsonLines().format(record)
    told = json.loads(line)
    assert "\n" not in line
    assert (told["message"], told["level"], told["route"]) == ("answered 200", "info", "/a\nb")
    assert datetime.fromisoformat(told["time"]).tzinfo is not None
