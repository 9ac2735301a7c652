"""Refuses requests that did not come from the explorer's own page: other hosts, other origins, no token, uploads.

A web page that is open in the same browser can send requests to 127.0.0.1, and after its name is made to resolve to
127.0.0.1 (DNS rebinding) read the answers. Its requests have its own name in `Host` and `Origin`, and do not have the
token of the address that was printed.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

#: Paths that the page posts to. Everything else that is posted, such as an upload, nobody asked for.
_POSTED_PATHS = re.compile(r"/gradio_api/(queue/join|cancel|reset|stream/[^/]+/close)/?")
#: Readers of other addresses, and what Gradio has for developers.
_REFUSED_PATHS = re.compile(r"/gradio_api/(proxy=|vibe|dev/|upload)|/monitoring")
#: Gradio asks its own server for this one when it starts, without a token; the answer says nothing.
_OPEN_PATH = "/gradio_api/startup-events"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """Who may open the page.

    Args:
        host (`str`):
            The address that is served on.
        token (`str`):
            Has to be in the address at the first visit. Empty for a page that is public, such as a Space: then hosts
            are not checked either, since a Space is reached through a proxy.
    """

    host: str = "127.0.0.1"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def is_host(self, value: str) -> bool:
        """Whether a page at this `Host` can be the explorer's: no name that somebody else can make resolve to it."""
        name = _host_name(value)
        if not self.token or name in _LOOPBACK or name == _host_name(self.host):
            return True
        if not is_unspecified(self.host):
            return False
        return name == socket.gethostname().lower() or _is_address(name)

    def address(self, local_url: str) -> str:
        """The address to open, with the token."""
        return f"{local_url}?token={self.token}" if self.token else local_url


class Guard:
    """ASGI middleware that answers 403 to requests that are not the page's own.

    Args:
        app (`App`):
            The application behind it.
        access (`Access`):
            Who may open the page.
    """

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answers a request that is refused, or hands it on."""
        if scope["type"] not in ("http", "websocket"):  # start and end of the server
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        reason = self._refusal(scope, headers)
        if reason is not None:
            return await _answer(scope, send, 403, reason)
        if (
            not self.access.token
            or scope["path"] == _OPEN_PATH
            or self._is_token(_cookie(headers, self._cookie_name(headers)))
        ):
            return await self.app(scope, receive, send)
        if not self._is_token(_query_token(scope)):
            return await _answer(
                scope,
                send,
                403,
                "Open the address that itl-hf explore printed: it ends in ?token=..., and is new each time.",
            )
        # As the address of the page, one without the token: it is then neither in the history nor in screenshots.
        cookie = f"{self._cookie_name(headers)}={self.access.token}; HttpOnly; SameSite=Lax; Path=/"
        location = scope.get("root_path", "") + scope["path"]
        await _answer(scope, send, 303, "", [("location", "/" + location.lstrip("/")), ("set-cookie", cookie)])

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.access.is_host(host):
            return f"The explorer does not answer to {_host_name(host)[:100]!r}. Open the address that was printed."
        if origin is not None and self.access.token and urlsplit(origin).netloc.lower() != host.lower():
            return "The explorer answers to its own page only, and this request is from another one."
        method, path = scope.get("method", "GET"), scope["path"]
        is_read = method in ("GET", "HEAD", "OPTIONS") and not _REFUSED_PATHS.match(path)
        if not is_read and not (method == "POST" and _POSTED_PATHS.fullmatch(path)):
            return "The explorer takes no uploads and has no such service."
        return None

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self.access.token.encode())

    @staticmethod
    def _cookie_name(headers: dict[str, str]) -> str:
        # Cookies are shared by all ports of a machine, and two explorers may run on it.
        port = headers.get("host", "").rpartition(":")[2]
        return f"itl_explorer_{port}" if port.isdigit() else "itl_explorer"


def is_unspecified(host: str) -> bool:
    """Whether a server at this address can be reached at every address of the machine."""
    name = _host_name(host)
    return _is_address(name) and ipaddress.ip_address(name).is_unspecified


def _host_name(value: str) -> str:
    """The name of a `Host` header without its port and the brackets of IPv6."""
    brackets = re.match(r"\[([^\]]*)\]", value)
    name = brackets[1] if brackets else value if value.count(":") > 1 else value.partition(":")[0]
    return name.lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _query_token(scope: Scope) -> str:
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _cookie(headers: dict[str, str], name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


async def _answer(
    scope: Scope, send: Any, status: int, text: str, headers: list[tuple[str, str]] | None = None
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    plain = [("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"), *(headers or [])]
    header_bytes = [(name.encode(), value.encode("latin-1")) for name, value in plain]
    await send({"type": "http.response.start", "status": status, "headers": header_bytes})
    await send({"type": "http.response.body", "body": text.encode()})
