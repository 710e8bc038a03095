"""Tokens are held as hashes, revoked without a restart, and neither callers nor guessers ask as often as they like."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import client, settings

from mien.errors import OptionError
from mien.serve.rates import Guesses, Rates
from mien.serve.tokens import LOCAL, Caller, Keyring, Role, check_exposure, make_token


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def hashed(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# The file


def test_a_made_token_opens_what_its_line_says(tmp_path: Path) -> None:
    made = [make_token("anna", Role.USER, 60.0), make_token("door", Role.VIEWER), make_token("chief", Role.ADMIN, 0.5)]
    keys = Keyring.load(written(tmp_path / "t", "# who may", *(line for _, line in made), "", "   # end"))
    assert not keys.open
    assert keys.count == 3
    assert [keys.caller(token) for token, _ in made] == [
        Caller("anna", Role.USER, 60.0),
        Caller("door", Role.VIEWER),
        Caller("chief", Role.ADMIN, 0.5),
    ]
    for token, line in made:
        assert token.startswith("mien_")
        assert len(token) >= 48  # 256 bits in base64
        assert token not in line
    assert len({token for token, _ in made}) == 3


@pytest.mark.parametrize(
    "token", [None, "", "x", "mien_", "x" * 10_000, "sha256:" + "0" * 64, "\ud800", "a\0b", "ключ"]
)
def test_other_tokens_open_nothing(tmp_path: Path, token: str | None) -> None:
    token_file = written(tmp_path / "t", make_token("anna", Role.USER)[1])
    assert Keyring.load(token_file).caller(token) is None


def test_the_hash_of_a_token_is_no_token(tmp_path: Path) -> None:
    _, line = make_token("anna", Role.USER)
    keys = Keyring.load(written(tmp_path / "t", line))
    held = line.split()[2]
    assert keys.caller(held) is keys.caller(held.removeprefix("sha256:")) is None


def test_without_a_file_everybody_is_local() -> None:
    keys = Keyring.load(None)
    assert keys.open
    assert keys.caller(None) is keys.caller("anything") is LOCAL


H = hashed("x")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("anna user secret-of-anna", f"write instead: anna user {hashed('secret-of-anna')}"),
        ("anna user secret-of-anna 5/min", f"write instead: anna user {hashed('secret-of-anna')} 5/min"),
        ("anna user sha256:abc", "not 64 hexadecimal digits"),
        (f"anna owner {H}", "choose one of: viewer, user, admin"),
        (f"an/na user {H}", "letters, digits"),
        (f"local admin {H}", "take another"),
        (f"anna user {H} often", "requests a minute"),
        (f"anna user {H} 0/min", "requests a minute"),
        (f"anna user {H} -1", "requests a minute"),
        (f"anna user {H} 5/min more", "5 words"),
        ("anna", "1 words"),
        (f"ok user {hashed('ok')}\nanna user {hashed('ok')}", "same token"),
    ],
)
def test_a_bad_line_is_named_with_what_to_write(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path / "t", "# comment", "", line)
    with pytest.raises(OptionError) as caught:
        Keyring.load(path)
    number = 3 + line.count("\n")
    assert f"line {number}: " in str(caught.value)
    assert said in str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        Keyring.load(tmp_path / "none")
    with pytest.raises(OptionError, match="cannot be read"):
        Keyring.load(tmp_path)
    (tmp_path / "raw").write_bytes(b"\xff\xfe\0")
    with pytest.raises(OptionError, match="not UTF-8"):
        Keyring.load(tmp_path / "raw")
    with pytest.raises(OptionError, match="no token; make one"):
        Keyring.load(written(tmp_path / "empty", "# nobody"))
    path = written(tmp_path / "t", make_token("anna", Role.USER)[1])
    path.chmod(0o666)
    with pytest.raises(OptionError, match="chmod 600"):
        Keyring.load(path)
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert Keyring.load(path).count == 1
    assert "may read the token file" in caplog.text


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 41, ".hidden", "local", "a\n"])
def test_a_token_is_made_only_for_a_plain_name(name: str) -> None:
    with pytest.raises(OptionError):
        make_token(name, Role.USER)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_token_is_made_only_with_a_rate_that_can_be_kept(rate: float) -> None:
    with pytest.raises(OptionError):
        make_token("anna", Role.USER, rate)


def test_a_token_is_revoked_when_the_file_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (anna, anna_line), (bert, bert_line) = make_token("anna", Role.USER), make_token("bert", Role.ADMIN)
    path = written(tmp_path / "t", anna_line, bert_line)
    keys = Keyring.load(path)
    assert keys.caller(anna)
    written(path, bert_line, "a slip of the pen")
    assert keys.caller(anna) is None
    assert keys.caller(bert) == Caller("bert", Role.ADMIN)
    assert "line 2" in caplog.text
    path.unlink()
    assert keys.caller(bert) is None
    assert not keys.open
    written(path, anna_line)
    assert keys.caller(anna) == Caller("anna", Role.USER)


def test_who_can_be_reached_by_others_needs_tokens(tmp_path: Path) -> None:
    path = written(tmp_path / "t", make_token("anna", Role.USER)[1])
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        check_exposure(settings(tmp_path, host=host))
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):  # noqa: S104  # refused
        with pytest.raises(OptionError, match=r"needs tokens.*mien token"):
            check_exposure(settings(tmp_path, host=host))
        check_exposure(settings(tmp_path, host=host, token_file=path))
    with pytest.raises(OptionError, match="proxy"):
        check_exposure(settings(tmp_path, proxy=True))


# Rates


def test_a_bucket_holds_a_minute_and_fills_again(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(tmp_path / "state" / "r", clock=clock)
    assert [rates.take("anna", 3) for _ in range(3)] == [0, 0, 0]
    assert rates.take("anna", 3) == pytest.approx(20)
    assert rates.take("bert", 3) == 0
    clock.now += 19.9
    assert rates.take("anna", 3) == pytest.approx(0.1)
    clock.now += 0.1
    assert rates.take("anna", 3) == 0
    assert rates.take("anna", 3) == pytest.approx(20)
    clock.now += 3600
    assert [rates.take("anna", 3) > 0 for _ in range(4)] == [False, False, False, True]
    rates.close()
    assert rates.take("anna", 3) > 0  # it is in the file
    rates.close()
    assert stat.S_IMODE((tmp_path / "state" / "r").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_less_than_one_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(tmp_path / "r", clock=clock)
    assert rates.take("anna", 0.5) == 0
    assert rates.take("anna", 0.5) == pytest.approx(120)
    clock.now += 120
    assert rates.take("anna", 0.5) == 0
    rates.close()


def test_a_clock_that_is_set_back_locks_nobody_out(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(tmp_path / "r", clock=clock)
    rates.take("anna", 60)
    clock.now -= 1_000_000
    rates.take("anna", 60)
    assert rates.take("anna", 60) <= 60
    rates.close()


@given(st.floats(0.1, 200), st.lists(st.floats(0, 90), max_size=60))
def test_never_more_than_the_rate(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    rates = Rates(Path(":memory:"), clock=clock)
    rates._held = sqlite3.connect(":memory:", isolation_level=None)
    rates._held.execute("CREATE TABLE rates (name TEXT PRIMARY KEY, empty REAL NOT NULL)")
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        if rates.take("anna", rate) == 0:
            passed.append(clock.now)
    rates.close()
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            minutes = (passed[last] - passed[first]) / 60
            assert last - first + 1 <= max(1.0, rate) + rate * minutes + 1e-6


def _ask(path: Path, times: int, passed: multiprocessing.Queue[int]) -> None:
    rates = Rates(path, clock=lambda: 1000.0)
    passed.put(sum(rates.take("anna", 40) == 0 for _ in range(times)))


def test_it_is_exact_over_processes(tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    passed = spawned.Queue()
    workers = [spawned.Process(target=_ask, args=(tmp_path / "r", 30, passed)) for _ in range(3)]
    for worker in workers:
        worker.start()
    counts = [passed.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(counts) == 40


# Guesses


def test_guesses_are_slowed_then_turned_away_then_forgiven() -> None:
    clock = Clock()
    guesses = Guesses(clock=clock)
    delays = [guesses.wrong("198.51.100.7") for _ in range(10)]
    assert delays == sorted(delays)
    assert delays[0] < 0.1
    assert delays[-1] == 1
    assert guesses.wait("198.51.100.7") == pytest.approx(6)
    assert guesses.wait("198.51.100.8") == 0
    clock.now += 6
    assert guesses.wait("198.51.100.7") == 0
    guesses.wrong("198.51.100.7")
    assert guesses.wait("198.51.100.7") > 0


def test_who_is_known_at_an_address_is_not_locked_out_by_a_neighbour() -> None:
    guesses = Guesses(clock=Clock())
    guesses.right("203.0.113.1", "anna")
    for _ in range(20):
        guesses.wrong("203.0.113.1")
    assert guesses.wait("203.0.113.1", "anna") == 0
    assert guesses.wait("203.0.113.1", "bert") > 0  # may be the guess that was right
    assert guesses.wait("203.0.113.1") > 0


def test_a_customer_is_one_address_and_the_memory_is_bounded() -> None:
    guesses = Guesses(addresses=50, clock=Clock())
    for n in range(20):
        guesses.wrong(f"2001:db8:1:2::{n:x}")
    assert len(guesses) == 1
    assert guesses.wait("2001:db8:1:2:ffff::1") > 0
    assert guesses.wait("2001:db8:1:3::1") == 0
    guesses.wrong("::ffff:203.0.113.9")
    guesses.wrong("203.0.113.9")
    assert len(guesses) == 2
    for n in range(500):
        guesses.wrong(f"10.0.{n // 250}.{n % 250}")
        guesses.wrong(f"no address {n}")
    assert len(guesses) == 50


# At the door


def test_roles_and_rates_at_the_door(tmp_path: Path) -> None:
    (user, user_line), (viewer, viewer_line) = make_token("anna", Role.USER, 2), make_token("door", Role.VIEWER)
    path = written(tmp_path / "t", user_line, viewer_line)
    with client(tmp_path / "state", token_file=path) as held:

        def asked(route: str, **headers: str) -> tuple[int, str | None]:
            answer = held.get(route, headers=headers)
            return answer.status_code, answer.json().get("error", {}).get("code")

        none = held.get("/v1/models")
        assert (none.status_code, none.json()["error"]["code"]) == (401, "token")
        assert none.headers["www-authenticate"] == 'Bearer realm="mien"'
        assert asked("/v1/models", authorization="Basic YTpi") == (401, "token")
        assert asked("/v1/models", authorization=f"bearer {viewer}") == (200, None)
        assert asked(f"/v1/models?token={viewer}") == (401, "token")
        assert asked("/metrics", authorization=f"Bearer {viewer}") == (403, "role")
        assert asked("/healthz") == (200, None)
        assert [asked("/v1/models", authorization=f"Bearer {user}")[0] for _ in range(3)] == [200, 200, 429]
        late = held.get("/v1/models", headers={"authorization": f"Bearer {user}"})
        assert 1 <= int(late.headers["retry-after"]) <= 30
        assert late.json()["error"]["code"] == "rate"
        assert asked("/v1/models", authorization=f"Bearer {viewer}")[0] == 200


def test_a_guesser_is_turned_away_also_with_a_token_that_is_right(tmp_path: Path) -> None:
    (anna, anna_line), (bert, bert_line) = make_token("anna", Role.USER), make_token("bert", Role.USER)
    with client(tmp_path / "state", token_file=written(tmp_path / "t", anna_line, bert_line)) as held:

        def asked(token: str) -> int:
            return held.get("/v1/models", headers={"authorization": f"Bearer {token}"}).status_code

        held.app.state.service.keys.guesses.most = 3  # type: ignore[attr-defined]  # fewer, so that it takes no time
        assert asked(anna) == 200
        answers = [asked(f"mien_guess{n}") for n in range(5)]
        assert answers == [401, 401, 401, 429, 429]
        assert asked(bert) == 429
        assert asked(anna) == 200


def test_two_tokens_in_one_request_are_none(tmp_path: Path) -> None:
    token, line = make_token("anna", Role.USER)
    with client(tmp_path / "state", token_file=written(tmp_path / "t", line)) as held:
        both = [("authorization", f"Bearer {token}"), ("authorization", "Bearer other")]
        assert held.get("/v1/models", headers=both).status_code == 401


def test_the_log_names_the_caller_and_no_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token, line = make_token("anna", Role.USER)
    with (
        caplog.at_level(logging.INFO, "mien"),
        client(tmp_path / "state", token_file=written(tmp_path / "t", line)) as held,
    ):
        held.get("/v1/models?secret=yes", headers={"authorization": f"Bearer {token}"})
        held.get("/v1/models", headers={"authorization": "Bearer mien_wrong"})
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("mien"))
    assert "caller=anna" in ours
    assert token not in ours
    assert "mien_wrong" not in ours
    assert "secret" not in ours


def test_without_the_file_for_counting_the_door_is_shut(tmp_path: Path) -> None:
    token, line = make_token("anna", Role.USER, 100)
    with client(tmp_path / "state", token_file=written(tmp_path / "t", line)) as held:
        os.makedirs(tmp_path / "state" / "rates.sqlite", exist_ok=True)  # noqa: PTH103  # a folder in its place
        answer = held.get("/v1/models", headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
