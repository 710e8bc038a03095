"""The page's own routes: its files and no others, the notice sheet, the QR code, what needs no token."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serving import app, client, settings

from mien.serve import pages, qr
from mien.serve.declaration import Declaration
from mien.serve.notice import Sheet, notice_of
from mien.serve.sheet import html_of
from mien.serve.texts import LANGUAGES, Language, texts_in
from mien.serve.tokens import Role, make_token

WEB = Path(str(files("mien.serve") / "web"))
ANYWHERE = "0.0.0.0"  # noqa: S104  # a setting; nothing listens in these tests
PARTS = sorted(p.relative_to(WEB).as_posix() for p in WEB.rglob("*") if p.is_file() and not p.name.startswith("."))


def ask(held: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask an application for a path as it stands, without a client that tidies it."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000")],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
    }
    asyncio.run(held(scope, receive, send))
    status = next(m["status"] for m in sent if m["type"] == "http.response.start")
    return status, b"".join(m.get("body", b"") for m in sent)


# Files


def test_every_file_of_the_page_is_given_with_its_type(tmp_path: Path) -> None:
    assert {"index.html", "notice.css", "favicon.svg", "texts/en.json"} <= set(PARTS)
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json"}
    with client(tmp_path) as http:
        for path in PARTS:
            answer = http.get(f"/web/{path}")
            assert answer.status_code == 200, path
            assert answer.content == (WEB / path).read_bytes(), path
            expected = kinds.get(Path(path).suffix, "image/svg+xml")
            assert answer.headers["content-type"].split(";")[0] == expected, path
            assert answer.headers["x-content-type-options"] == "nosniff", path


def test_the_page_is_given_and_refers_to_parts_that_exist(tmp_path: Path) -> None:
    with client(tmp_path) as http:
        page = http.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        named = re.findall(r'(?:src|href)="(web/[^"#]+)"', page.text)
        assert named
        for path in named:
            assert http.get(f"/{path}").status_code == 200, path
        assert http.get("/favicon.svg").headers["content-type"] == "image/svg+xml"


def test_a_browser_that_has_a_file_is_told_so(tmp_path: Path) -> None:
    with client(tmp_path) as http:
        for path in ("/", "/web/notice.css"):
            first = http.get(path)
            tag = first.headers["etag"]
            assert first.headers["cache-control"] == "no-cache"
            for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                again = http.get(path, headers={"If-None-Match": known})
                assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        assert len({http.get(p).headers["etag"] for p in ("/", "/web/notice.css", "/favicon.svg")}) == 3


def test_a_file_that_changed_is_given_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / "a.css").write_text("one")
    monkeypatch.setattr(pages, "_web", lambda: web)
    with client(tmp_path / "state") as http:
        tag = http.get("/web/a.css").headers["etag"]
        (web / "a.css").write_text("three")
        again = http.get("/web/a.css", headers={"If-None-Match": tag})
        assert (again.status_code, again.text) == (200, "three")


@pytest.mark.parametrize("path", ["/", "/web/notice.css", "/notice", "/qr.svg", "/favicon.svg", "/robots.txt"])
def test_a_head_is_given_without_its_body(tmp_path: Path, path: str) -> None:
    with client(tmp_path) as http:
        whole, head = http.get(path), http.head(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == str(len(whole.content))
        assert http.post(path).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/web/",
        "/web/texts",
        "/web/texts/",
        "/web/none.css",
        "/web/../app.py",
        "/web/texts/../../app.py",
        "/web/..",
        "/web/....//app.py",
        "/web/..\\app.py",
        "/web/%2e%2e/app.py",
        "/web/texts%2fen.json",
        "/web//etc/passwd",
        "/web//notice.css",
        "/web/./notice.css",
        "/web/notice.css/",
        "/web/notice.css\x00.css",
        "/web/notice.css\n",
        "/web/C:/windows/win.ini",
        "/web/C:notice.css",
        "/web/notice.css::$DATA",
        "/web/.hidden.css",
        "/web/NOTICE.CSS\u202e",
        "/web/" + "a/" * 50 + "a.css",
        "/web/" + "a" * 3000 + ".css",
    ],
)
def test_what_is_not_a_file_of_the_page_is_not_found(tmp_path: Path, path: str) -> None:
    status, body = ask(app(tmp_path), path)
    assert status == 404
    assert b'"error"' in body
    assert str(tmp_path).encode() not in body
    assert str(WEB).encode() not in body


def test_links_and_other_kinds_of_files_are_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (tmp_path / "secret.css").write_text("secret")
    (web / "link.css").symlink_to(tmp_path / "secret.css")
    (web / "folder").symlink_to(tmp_path)
    (web / "code.py").write_text("secret")
    (web / "plain").write_text("secret")
    (web / "good.css").write_text("good")
    monkeypatch.setattr(pages, "_web", lambda: web)
    with client(tmp_path / "state") as http:
        assert http.get("/web/good.css").text == "good"
        for path in ("link.css", "folder/secret.css", "code.py", "plain"):
            assert http.get(f"/web/{path}").status_code == 404, path


def test_search_engines_are_asked_to_stay_away(tmp_path: Path) -> None:
    with client(tmp_path) as http:
        assert http.get("/robots.txt").text == "User-agent: *\nDisallow: /\n"
        assert 'name="robots" content="noindex"' in http.get("/notice").text


def test_the_shell_needs_no_token_and_holds_no_data(tmp_path: Path) -> None:
    token, line = make_token("anna", Role.ADMIN)
    file = tmp_path / "tokens.txt"
    file.write_text(line + "\n")
    file.chmod(0o600)
    with client(tmp_path / "state", token_file=file) as http:
        for path in ("/", "/web/notice.css", "/notice", "/qr.svg", "/robots.txt", "/v1/policy", "/v1/notice"):
            answer = http.get(path)
            assert answer.status_code == 200, path
            assert token not in answer.text
            assert "anna" not in answer.text
        assert http.get("/v1/stored").status_code == 401


# The sheet


def test_the_sheet_comes_in_the_language_asked_for_or_the_browsers(tmp_path: Path) -> None:
    with client(tmp_path) as http:
        for language in LANGUAGES:
            answer = http.get(f"/notice?lang={language}", headers={"Accept-Language": "fr"})
            assert answer.headers["content-language"] == language
            assert texts_in(language)["notice.title"] in answer.text
            assert f'href="notice?lang={language}"' in answer.text
        assert texts_in("ru")["notice.title"] in http.get("/notice", headers={"Accept-Language": "ru"}).text
        assert texts_in("en")["notice.title"] in http.get("/notice").text
        assert http.get("/notice?lang=de").json()["error"]["code"] == "invalid"


def test_the_sheet_has_a_code_only_where_others_can_reach_it(tmp_path: Path) -> None:
    with client(tmp_path / "a") as http:
        here = http.get("/notice").text
        assert "<figure>" not in here
        assert texts_in("en")["notice.local"] in here
    with client(tmp_path / "b", origin="https://faces.example/") as http:
        there = http.get("/notice?lang=ru").text
        assert "<title>https://faces.example/notice?lang=ru</title>" in there
        assert texts_in("ru")["notice.local"] not in there


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to print with")
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sheet_fills_one_page_of_a4(tmp_path: Path, language: Language) -> None:
    note = "test screening of a short film for those who signed the list at the door"
    declared = Declaration(purpose="audience", note=note, time="", by="", notice_version="")
    notice = notice_of(settings(tmp_path), declared, Sheet(), language)
    (tmp_path / "sheet.html").write_text(html_of(notice, "https://faces.example"), "utf-8")
    (tmp_path / "web").mkdir()
    shutil.copy(WEB / "notice.css", tmp_path / "web")
    assert CHROMIUM is not None
    plain = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={tmp_path}/u"]
    command = [CHROMIUM, *plain, f"--print-to-pdf={tmp_path}/sheet.pdf", f"file://{tmp_path}/sheet.html"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    printed = (tmp_path / "sheet.pdf").read_bytes()
    assert re.findall(rb"/Count (\d+)", printed) == [b"1"]
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    assert box is not None
    assert float(box[1]) == pytest.approx(595.3, abs=1)
    assert float(box[2]) == pytest.approx(841.9, abs=1)


# The QR code


def read_back(markup: str) -> str:
    """Draw the SVG by its own words and let OpenCV read the code."""
    size = int(re.findall(r'viewBox="0 0 (\d+) \d+"', markup)[0])
    picture = np.full((size, size), 255, np.uint8)
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", markup):
        picture[int(y), int(x) : int(x) + int(width)] = 0
    large = cv2.resize(picture, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    return str(cv2.QRCodeDetector().detectAndDecode(large)[0])


@pytest.mark.parametrize(
    ("changes", "host", "address"),
    [
        ({}, "127.0.0.1:8000", "http://127.0.0.1:8000"),
        ({}, "localhost:8000", "http://127.0.0.1:8000"),
        ({"origin": "https://faces.example/"}, "127.0.0.1:8000", "https://faces.example"),
        ({"hosts": ("Faces.example",)}, "faces.example:8443", "http://faces.example:8443"),
        ({"hosts": ("faces.example",), "tls": "self-signed"}, "faces.example", "https://faces.example"),
        ({"hosts": ("faces.example",)}, "127.0.0.1:8000", "http://127.0.0.1:8000"),
        ({"host": ANYWHERE}, "192.168.1.7:8000", "http://192.168.1.7:8000"),
        ({"host": "::"}, "[2001:db8::7]:8000", "http://[2001:db8::7]:8000"),
    ],
)
def test_the_code_holds_the_address_of_the_page(tmp_path: Path, changes: Any, host: str, address: str) -> None:
    with client(tmp_path, **changes) as http:
        answer = http.get("/qr.svg", headers={"Host": host})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["cache-control"] == "no-store"
        assert f"<title>{address}</title>" in answer.text
        assert read_back(answer.text) == address


def test_opened_at_the_machine_itself_the_code_leads_others_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qr, "own_addresses", lambda: ("192.168.1.7", "127.0.0.1"))
    with client(tmp_path, host=ANYWHERE) as http:
        for host in ("127.0.0.1:8000", "localhost:8000"):
            assert read_back(http.get("/qr.svg", headers={"Host": host}).text) == "http://192.168.1.7:8000"


def test_the_code_of_another_text_is_not_drawn(tmp_path: Path) -> None:
    with client(tmp_path, host=ANYWHERE) as http:
        plain = http.get("/qr.svg", headers={"Host": "192.168.1.7:8000"}).text
        query = "?text=https://evil.example&url=https://evil.example"
        assert http.get(f"/qr.svg{query}", headers={"Host": "192.168.1.7:8000"}).text == plain
        for host in ("evil.example", "evil.example:8000", "a b", "<script>", "127.0.0.1@evil.example"):
            answer = http.get("/qr.svg", headers={"Host": host})
            assert answer.status_code in {400, 421}, host
            assert "evil" not in answer.text


@pytest.mark.parametrize("text", ["a", "https://faces.example/notice?lang=zh", "<&>" * 20, "表情" * 30])
def test_the_code_is_read_by_others_and_its_title_is_escaped(text: str) -> None:
    markup = qr.svg(text)
    assert read_back(markup) == text
    assert "<&>" not in markup
    assert "style" not in markup


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("https://127.8.9.1", True),
        ("http://localhost", True),
        ("http://[::1]:8000", True),
        ("http://192.168.1.7:8000", False),
        ("http://[2001:db8::7]:8000", False),
        ("https://faces.example/mien", False),
    ],
)
def test_an_address_of_this_machine_alone_is_known(address: str, here: bool) -> None:
    assert qr.only_here(address) is here
