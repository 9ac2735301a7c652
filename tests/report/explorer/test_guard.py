"""Only the explorer's own page gets answers; its files go when its process does."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from itl_hf.report.explorer import private_folder, serve
from itl_hf.report.explorer.address import check_address
from itl_hf.report.explorer.guard import Access, Guard, is_unspecified

OWN = "127.0.0.1:7860"


def ask(access, path="/config", *, method="GET", host=OWN, origin=None, cookie=None, query="", kind="http"):
    """Returns status and headers of the guard's answer; 200 is that of the application behind it."""
    answers = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        answers.append(message)

    headers = {"host": host, "origin": origin, "cookie": cookie}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value is not None]
    scope = {"type": kind, "path": path, "headers": encoded, "query_string": query.encode()}
    if kind == "http":
        scope["method"] = method
    asyncio.run(Guard(app, access)(scope, None, send))
    first = answers[0]
    return first.get("status", first["type"]), dict(first.get("headers", []))


@pytest.fixture
def access():
    return Access("127.0.0.1", token="t0ken")


COOKIE = "itl_explorer_7860=t0ken"


@pytest.mark.parametrize("host", [OWN, "localhost:7860", "[::1]:7860", "LOCALHOST:7860"])
def test_the_page_itself_is_answered(access, host):
    assert ask(access, host=host, cookie=COOKIE)[0] == 200
    assert ask(access, host=host, cookie=COOKIE, origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example:7860", "127.0.0.1.evil.example:7860", "", "localhost.evil:7860", "evil.example", "10.0.0.1"]
)
def test_other_names_are_refused(access, host):
    assert ask(access, host=host, cookie=COOKIE)[0] == 403
    assert ask(access, host=host, cookie=COOKIE, kind="websocket")[0] == "websocket.close"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://evil.example:7860"]
)
def test_other_origins_are_refused(access, origin):
    assert ask(access, origin=origin, cookie=COOKIE)[0] == 403
    assert ask(access, "/gradio_api/queue/join", method="POST", origin=origin, cookie=COOKIE)[0] == 403


@pytest.mark.parametrize(
    "cookie", [None, "itl_explorer_7860=", "itl_explorer_7860=T0ken", "itl_explorer_7861=t0ken", "=;"]
)
@pytest.mark.parametrize("query", ["", "token=", "token=wrong"])
def test_without_the_token_nothing_is_answered(access, cookie, query):
    assert ask(access, cookie=cookie, query=query)[0] == 403


def test_the_printed_address_leads_to_the_page_with_a_cookie(access):
    assert access.address("http://127.0.0.1:7860/") == "http://127.0.0.1:7860/?token=t0ken"
    status, headers = ask(access, "/", query="token=t0ken")
    assert (status, headers[b"location"]) == (303, b"/")
    assert b"HttpOnly; SameSite=Lax" in headers[b"set-cookie"]
    assert ask(access, cookie=headers[b"set-cookie"].decode().split(";")[0])[0] == 200
    assert ask(access, "//evil.example", query="token=t0ken")[1][b"location"] == b"/evil.example"


def test_tokens_are_long_and_new_each_time():
    assert len(Access().token) >= 32
    assert Access().token != Access().token


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/upload_progress"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/run/predict"),
        ("PUT", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/proxy=https://evil.example"),
        ("POST", "/gradio_api/process_recording"),
    ],
)
@pytest.mark.parametrize("public", [False, True])
def test_uploads_and_other_services_are_refused(access, method, path, public):
    assert ask(Access(token="") if public else access, path, method=method, cookie=COOKIE)[0] == 403


def test_a_public_page_is_answered_through_a_proxy():
    assert ask(Access("0.0.0.0", token=""), host="me-space.hf.space", origin="https://huggingface.co")[0] == 200


def test_at_all_addresses_a_name_of_somebody_else_is_refused():
    everywhere = Access("0.0.0.0", token="t0ken")
    for host in ("192.168.0.7:7860", "localhost:7860", f"{socket.gethostname()}:7860", "[fe80::1]:7860"):
        assert ask(everywhere, host=host, cookie=COOKIE)[0] == 200
    assert ask(everywhere, host="evil.example:7860", cookie=COOKIE)[0] == 403
    assert is_unspecified("0.0.0.0")
    assert is_unspecified("::")
    assert not is_unspecified("127.0.0.1")


@pytest.mark.parametrize("port", [0, -1, 65536, 99999, 10**30, True, "80"])
def test_ports_that_do_not_exist(port):
    with pytest.raises(ValueError, match="--port must be from 1 to 65535"):
        check_address("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "a b", "", "x" * 300, "999.1.1.1"])
def test_hosts_that_are_not_this_machine(host):
    with pytest.raises(ValueError, match="not an address of this machine"):
        check_address(host, None)


def test_a_port_in_use_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match=f"port {other.getsockname()[1]} of 127.0.0.1 cannot be used"):
            check_address("127.0.0.1", other.getsockname()[1])


def request(address, path, *, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.request(method, path, body, {"Host": address.netloc, **headers})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_a_server_is_guarded(bare, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # restored afterwards
    page = serve(bare)
    try:
        address, folder = urlsplit(page.local_url), Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert request(address, "/config")[0] == 403
        status, headers, _ = request(address, f"/?{address.query}")
        assert status == 303
        cookie = headers["set-cookie"].split(";")[0]
        status, _, content = request(address, "/config", Cookie=cookie)
        assert status == 200
        assert b"itl-map" in content
        assert request(address, "/config", Cookie=cookie, Host="evil.example")[0] == 403
        assert request(address, "/gradio_api/upload", method="POST", body=b"x", Cookie=cookie)[0] == 403
    finally:
        page.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
def test_the_private_folder_goes_at_every_kind_of_exit(number, tmp_path):
    code = (
        "import runpy, signal, sys\n"  # the module alone, which starts at once
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where tests run in the background
        f"folder = runpy.run_path({private_folder.__file__!r})['PrivateFolder']()\n"
        "(folder.path / 'picks.jsonl').write_text('private')\n"
        "print(folder.path, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        assert folder.parent == tmp_path
        if number is None:
            process.stdin.close()
        else:
            process.send_signal(number)
        process.wait(timeout=60)
    until = time.monotonic() + 30
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()
