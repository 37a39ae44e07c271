"""Who may speak to the server: our own page and whoever has the token; every answer says how a
browser is to treat it.

An ASGI middleware, before all routes. The token comes in the header `Authorization: Bearer`, or
once in the address (`/?token=...`), after which a cookie of this browser holds it.
"""

import contextlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.requests import ClientDisconnect

from gs_ssd.studio.guard import Guard

UPLOADS = "/api/uploads"
"""Below it bodies are files, and counted as they come; all others are short."""
MOST_BYTES = 1 << 20
COOKIE = "gs-ssd-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " media-src 'self'; connect-src 'self'; worker-src blob:; frame-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
ALWAYS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer that does not set them itself."""


def new_token() -> str:
    """One that cannot be guessed."""
    return secrets.token_urlsafe(24)


class Entry:
    """Lets requests through to `app`, or answers 403 (of another site) or 401 (no token).

    Args:
        token: what must be shown; None: nothing.
    """

    def __init__(self, app: Any, guard: Guard, token: str | None) -> None:
        self.app, self.guard, self.token = app, guard, token

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal = self.guard.refusal(headers.get("host", []), headers.get("origin", []))
        if refusal is None and headers.get("sec-fetch-site", [""])[0] == "cross-site":
            top = headers.get("sec-fetch-mode", [""])[0] == "navigate"
            safe = scope.get("method") == "GET" and scope["path"] == "/"
            refusal = None if top and safe else "the request comes from a page of another site"
        if refusal is not None or scope["type"] != "http":
            await _answer(scope, send, 403, refusal or "only HTTP is spoken here")
            return
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self.token is not None and scope["path"] == "/" and self._fits(shown):
            await _answer(scope, send, 303, "", [("Location", "/"), ("Set-Cookie", self._cookie())])
            return
        if self.token is not None and not self._fits(_shown(headers)):
            await _answer(
                scope, send, 401, "this server wants a token: open the address that it printed"
            )
            return
        if not scope["path"].startswith(UPLOADS) and (too_much := _too_much(headers)):
            await _answer(scope, send, *too_much)
            return
        with contextlib.suppress(ClientDisconnect):  # in the middle of its request
            await self.app(scope, receive, _with_headers(send))

    def _fits(self, shown: str) -> bool:
        return self.token is not None and hmac.compare_digest(shown.encode(), self.token.encode())

    def _cookie(self) -> str:
        return f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"


def address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    name = f"[{host}]" if ":" in host else host
    query = "" if token is None else "?" + urlencode({"token": token})
    return f"http://{name}:{port}/{query}"


def _headers(scope: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _too_much(headers: dict[str, list[str]]) -> tuple[int, str] | None:
    """Status and sentence for a request whose body is too long, or does not say how long it is."""
    if "transfer-encoding" in headers:
        return 411, "say how long the body is (Content-Length)"
    length = headers.get("content-length", ["0"])[0]
    if not length.isdecimal() or int(length) > MOST_BYTES:
        return 413, f"the body may have {MOST_BYTES} bytes"
    return None


def _shown(headers: dict[str, list[str]]) -> str:
    scheme, _, value = headers.get("authorization", [""])[0].partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    try:
        cookies = SimpleCookie("; ".join(headers.get("cookie", [])))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _with_headers(send: Any) -> Any:
    async def send_more(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (name.lower().encode(), value.encode())
                    for name, value in ALWAYS.items()
                    if name.lower().encode() not in there
                ),
            ]
        await send(message)

    return send_more


async def _answer(
    scope: dict[str, Any],
    send: Any,
    status: int,
    text: str,
    headers: list[tuple[str, str]] | None = None,
) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008})
        return
    more = [("Content-Type", "text/plain; charset=utf-8"), *ALWAYS.items(), *(headers or [])]
    raw = [(name.lower().encode(), value.encode()) for name, value in more]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
