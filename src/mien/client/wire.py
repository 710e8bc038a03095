"""Requests and answers: connections that are used again, patience with a busy service, one kind of error."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from ..errors import MienError, OptionError, ServiceError
from .body import Body

__all__ = ["Wire", "gone"]

_TRIES = 3
_ERROR_BYTES = 64 * 1024
_IDLE = 4
_BUSY = frozenset({429, 503})


class Wire:
    """The way to one service. Safe to use from several threads.

    Parameters
    ----------
    address
        As ``http://127.0.0.1:8000``; a path is put before that of every request.
    token
        Sent with every request.
    timeout
        Seconds of silence after which a request is given up.
    verify
        True: the certificate has to be of an authority that this system trusts; a path: it has to be in that file.
    patience
        Seconds that are waited in all, for one call, where the service asks to come back later.
    """

    def __init__(self, address: str, *, token: str | None, timeout: float, verify: Any, patience: float) -> None:
        parts = _parts(address)
        if (
            parts is None
            or parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.username
            or parts.query
        ):
            msg = f"address {address!r} must be as http://127.0.0.1:8000 or https://faces.example"
            raise OptionError(msg)
        if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
            msg = "the token must be one word of ASCII letters, digits and signs"
            raise OptionError(msg)
        if timeout <= 0 or patience < 0:
            msg = f"timeout is {timeout} and patience {patience} seconds; they must be above 0, and 0 or more"
            raise OptionError(msg)
        self.address, self.timeout, self.patience = address.rstrip("/"), timeout, patience
        self._host, self._port, self._before = parts.hostname, parts.port, parts.path.rstrip("/")
        self._trust = _trust(verify) if parts.scheme == "https" else None
        self._headers = {"Accept": "application/json", "User-Agent": "mien-client"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()

    def json(self, method: str, path: str, **request: Any) -> Any:
        """Do a request and return what the JSON of its answer says; None for an answer without a body."""
        data = self.data(method, path, **request)
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            msg = f"{method} {path} was not answered with JSON"
            raise self.strange(msg) from error

    def data(self, method: str, path: str, **request: Any) -> bytes:
        """Do a request and return the body of its answer."""
        tries = _TRIES if request.get("again", method != "POST") else 1
        while True:
            tries -= 1
            with self.open(method, path, **request) as answer:
                try:
                    return answer.read()
                except gone as error:
                    if not tries:
                        raise self.lost(error) from error

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool | None = None,
    ) -> Iterator[HTTPResponse]:
        """Do a request and give its answer, whose body is still to be read.

        Parameters
        ----------
        query
            What stands behind the question mark; None is left out, True and False are written small.
        body
            What is sent.
        headers
            Further headers.
        again
            Doing it twice does no harm, so it may be tried again where the connection broke; None: as the method says.

        Raises
        ------
        ServiceError
            If the answer is an error, or there is none.
        """
        again = method != "POST" if again is None else again
        target = self._before + path + _written(query or {})
        link, answer = self._answered(method, target, body, dict(headers or {}), again=again)
        try:
            yield answer
        finally:
            self._leave(link, answer)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def _answered(
        self, method: str, target: str, body: Body | None, headers: dict[str, str], *, again: bool
    ) -> tuple[HTTPConnection, HTTPResponse]:
        failed, waited = 0, 0.0
        while True:
            # A connection that was used may have been closed by the service, which shows only when a request is lost;
            # then the other ones are likely to be closed, too.
            link = self._link(used=again and not failed)
            try:
                answer = _sent(link, method, target, body, self._headers | headers)
            except MienError:
                link.close()
                raise
            except gone as error:
                link.close()
                failed += 1
                if not again or failed == _TRIES or isinstance(error, TimeoutError):
                    raise self.lost(error) from error
                self.pause(0.1 * (failed - 1))
                continue
            except BaseException:
                link.close()
                raise
            later = _later(answer) if answer.status in _BUSY else None
            if answer.status < 300:
                return link, answer
            error_body = self._read_error(link, answer)
            if later is None or waited + later > self.patience:
                raise self._refused(answer, error_body)
            waited += later
            self.pause(later)

    def _read_error(self, link: HTTPConnection, answer: HTTPResponse) -> bytes:
        try:
            return answer.read(_ERROR_BYTES)
        except gone:
            return b""
        finally:
            self._leave(link, answer)

    def _link(self, *, used: bool) -> HTTPConnection:
        with self._lock:
            if used and self._idle:
                return self._idle.pop()
        if self._trust is not None:
            return HTTPSConnection(self._host, self._port, timeout=self.timeout, context=self._trust)
        return HTTPConnection(self._host, self._port, timeout=self.timeout)

    def _leave(self, link: HTTPConnection, answer: HTTPResponse) -> None:
        with self._lock:
            if answer.isclosed() and not answer.will_close and len(self._idle) < _IDLE:
                self._idle.append(link)
                return
        answer.close()
        link.close()

    def lost(self, error: Exception) -> ServiceError:
        """Return the error that says how the connection broke."""
        if isinstance(error, TimeoutError):
            msg = f"{self.address} did not answer within {self.timeout:g} seconds"
            return ServiceError(msg, code="timeout", hint="is it overloaded? give a longer timeout")
        if isinstance(error, ssl.SSLCertVerificationError):
            msg = f"{self.address}: its certificate is not trusted ({error.verify_message})"
            return ServiceError(msg, code="certificate", hint="give the file of the certificate as verify")
        return ServiceError(
            f"{self.address} cannot be reached ({str(error) or type(error).__name__})", code="unreachable"
        )

    def strange(self, what: str) -> ServiceError:
        """Return the error that says what a service should not have answered."""
        return ServiceError(f"{self.address}: {what}", code="strange", hint="is it mien that listens there?")

    def _refused(self, answer: HTTPResponse, body: bytes) -> ServiceError:
        try:
            told = json.loads(body)["error"]
            message, code, hint = str(told["message"]), str(told["code"]), told.get("hint")
        except (ValueError, KeyError, TypeError):
            # What stands between, as a reverse proxy, has its own errors.
            message, code, hint = f"{self.address} answered {answer.status} {answer.reason}", "http", None
        return ServiceError(message, status=answer.status, code=code, hint=hint and str(hint))


gone = (OSError, HTTPException)
"""What is raised where a connection breaks."""


def _parts(address: str) -> SplitResult | None:
    parts = urlsplit(address)
    try:
        usable = parts.port != 0
    except ValueError:  # above 65535
        return None
    return parts if usable else None


def _trust(verify: Any) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if verify is True else str(verify))
    except OSError as error:
        msg = f"verify is {str(verify)!r}, which is no file with a certificate (PEM)"
        raise OptionError(msg) from error


def _written(query: Mapping[str, Any]) -> str:
    given = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items() if v is not None}
    return f"?{urlencode(given)}" if given else ""


def _sent(
    link: HTTPConnection, method: str, target: str, body: Body | None, headers: Mapping[str, str]
) -> HTTPResponse:
    link.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        link.putheader(name, value)
    if body is None:
        link.endheaders()
        return link.getresponse()
    link.putheader("Content-Type", body.media_type)
    link.putheader("Content-Length", str(body.length))
    link.endheaders()
    try:
        for piece in body.pieces():
            if _is_answered(link):
                break
            link.send(piece)
        else:
            return link.getresponse()
    except (BrokenPipeError, ConnectionResetError) as error:
        try:
            return _early(link)
        except gone:
            raise error from None
    return _early(link)


def _early(link: HTTPConnection) -> HTTPResponse:
    """Return an answer that came before all was sent: a service that refuses a body does not wait for its end."""
    answer = link.getresponse()
    answer.will_close = True
    return answer


def _is_answered(link: HTTPConnection) -> bool:
    """Tell whether the service says something already; over TLS it may be no answer, so nothing is looked at."""
    held = link.sock
    if held is None or isinstance(held, ssl.SSLSocket):
        return False
    held.settimeout(0)
    try:
        held.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    finally:
        held.settimeout(link.timeout)
    return True


def _later(answer: HTTPResponse) -> float | None:
    """Return after how many seconds the service says to come back; None: it does not say."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return None
