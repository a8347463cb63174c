"""Who may talk to the studio: this machine's browser with the token, from the studio's own page."""

import hmac
import json
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

START = "/start"
FREE = ("/assets/",)  # the page's own code: the same for everybody, and of no data
SAFE_METHODS = ("GET", "HEAD")
HEADER = "x-frisket"  # a page of another origin cannot send it without being asked first
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob: data:; media-src 'self' blob:; font-src 'self';"
    " worker-src 'self' blob:; frame-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OPEN_PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">
<link rel="icon" href="data:,"><title>Frisket studio</title><a href="/">Open the studio</a>"""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets of one server: the token of the start address, and the cookie it is turned into.

    The token stays good as long as the server runs, so that a second browser can be opened with
    it; the cookie is of another secret, which no address ever holds.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """The cookie's name; cookies know no ports, and two studios must not share one."""
        return f"frisket-studio-{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the browser may call this server."""
        return tuple(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]"))

    @property
    def address(self) -> str:
        """Where the page opens."""
        return f"http://127.0.0.1:{self.port}{START}?token={self.token}"


class Guard:
    """Refuses by default: every path but the start and the page's own code needs the cookie."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        """Stand before `app`: what has the credentials goes through to it."""
        self.app, self.credentials = app, credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with what is wrong."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets here
            return
        headers = Headers(scope=scope)
        fault = self._find_fault(scope, headers)
        if fault:
            await _answer(send, *fault)
        elif scope["path"] == START:
            await self._start(scope, send)
        else:
            await self.app(scope, receive, _with_headers(send))

    def _find_fault(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        hosts = self.credentials.hosts
        if headers.get("host", "") not in hosts:
            return 421, f"this server is {hosts[0]} only; no other host name is served"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            return 403, "a page of another origin may not use the studio"
        method = scope["method"]
        if scope["path"] == START:
            return None if method == "GET" else (405, "GET only")
        return self._find_foreign(scope["path"], method, headers)

    def _find_foreign(self, path: str, method: str, headers: Headers) -> tuple[int, str] | None:
        """What shows that a request is not from the page that was opened with the token."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "a page of another site may not use the studio"
        if path.startswith(FREE) and method in SAFE_METHODS:
            return None
        if not self._is_known(headers):
            return 401, "open the address that `frisket studio` printed, with its token"
        if method not in SAFE_METHODS and headers.get(HEADER) != "1":
            return 403, "a change needs the header X-Frisket: 1"
        return None

    def _is_known(self, headers: Headers) -> bool:
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(headers.get("cookie", ""))
        except CookieError:
            return False
        morsel = jar.get(self.credentials.cookie)
        value = morsel.value if morsel else ""
        return hmac.compare_digest(value.encode(), self.credentials.session.encode())

    async def _start(self, scope: Scope, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        token = query.get("token", [""])[0]
        if not hmac.compare_digest(token.encode(), self.credentials.token.encode()):
            await _answer(send, 401, "this token is not of the studio that runs here now")
            return
        cookie = (
            f"{self.credentials.cookie}={self.credentials.session};"
            " Path=/; HttpOnly; SameSite=Strict"
        )
        # A page, not a redirect: after a link from elsewhere a Strict cookie would not be sent on.
        await _send(send, 200, "text/html; charset=utf-8", OPEN_PAGE, {"set-cookie": cookie})


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers


async def _answer(send: Send, status: int, fault: str) -> None:
    await _send(send, status, "application/json", json.dumps({"error": fault}))


async def _send(
    send: Send, status: int, kind: str, text: str, more: dict[str, str] | None = None
) -> None:
    body = text.encode()
    headers = {**HEADERS, "content-type": kind, "content-length": str(len(body)), **(more or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
