"""The doors of the server: without a login nothing goes in or out but the login itself and the sign of life.

A layer around the whole server: pages, pictures, uploads, downloads and the tabs' connections all come by here, before
Streamlit sees them. It says who may come in; what they may do there each action asks again (`access.require`).
"""

import logging
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard import access
from dashboard.people import known_users
from inspector.config import Config
from inspector.errors import InspectorError, LoggedOutError

log = logging.getLogger(__name__)

LOGIN, OPEN = "/login", ("/login", "/_stcore/health")
MAX_FORM_BYTES = 4096
MAX_WAITING = 8
"""Logins that may wait for their password to be compared; more are sent away, so that they hold up nobody's page."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
BROKEN = (
    "Nobody can log in: the configuration or the users' file is wrong. What is wrong stands in the log of the pages."
)
WRONG = "The name or the password is wrong."
FORM = (Path(__file__).parent / "login.html").read_text(encoding="utf-8")


class Doors:
    """Lets in who is logged in; pages lead to the login, everything else is refused."""

    def __init__(self, app: ASGIApp, configuration: Callable[[], Config]) -> None:
        self._app, self._configuration = app, configuration

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN or self._is_in(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the wish to connect
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _sent_away(Request(scope))(scope, receive, send)

    def _is_in(self, connection: HTTPConnection) -> bool:
        try:
            config = self._configuration()
            access.visitor(config, connection.cookies.get(access.cookie_name(config), ""), used=False)
        except LoggedOutError:
            return False
        except InspectorError as error:
            log.error("nobody is let in: %s", error)
            return False
        return True


def routes(configuration: Callable[[], Config]) -> list[BaseRoute]:
    """The login: its form, and what it sends."""
    desk = _Desk(configuration)
    return [Route(LOGIN, desk.show, methods=["GET"]), Route(LOGIN, desk.log_in, methods=["POST"])]


class _Desk:
    """Shows the form and compares passwords."""

    def __init__(self, configuration: Callable[[], Config]) -> None:
        self._configuration = configuration
        self._waiting = 0

    async def show(self, request: Request) -> Response:
        """The form; who is in already goes on to the page."""
        onward = _onward(request.query_params.get("next", ""))
        try:
            config = self._configuration()
            access.visitor(config, request.cookies.get(access.cookie_name(config), ""), used=False)
        except LoggedOutError:
            if not known_users(config):
                return _form(
                    onward, "Nobody may log in yet. On this machine: inspector user add NAME --role engineer", 403
                )
            return _form(onward)
        except InspectorError as error:
            log.error("nobody can log in: %s", error)
            return _form(onward, BROKEN, 503)
        return RedirectResponse(onward, 303, HEADERS)

    async def log_in(self, request: Request) -> Response:
        """A session for who knows the password; everybody else gets the form again, and waits after several wrong tries."""
        if not _is_own(request):
            return PlainTextResponse("this form belongs to another site", 403, HEADERS)
        sent = await _sent(request)
        onward = _onward(sent.get("next", ""))
        if self._waiting >= MAX_WAITING:
            return _form(onward, "Too many people log in at once. Try again in a moment.", 503)
        self._waiting += 1
        try:
            config = self._configuration()
            users = known_users(config)
            user, wait_s = await run_in_threadpool(
                access.TRIES.check, users, sent.get("name", ""), sent.get("password", ""), time.monotonic()
            )
        except InspectorError as error:
            log.error("nobody can log in: %s", error)
            return _form(onward, BROKEN, 503)
        finally:
            self._waiting -= 1
        if user is None:
            log.warning("a login as %.40r from %s was refused", sent.get("name", ""), _place(request))
            paused = f" The next try counts in {wait_s:.0f} s." if wait_s >= 1 else ""
            return _form(onward, WRONG + paused, 429 if paused else 401)
        log.info("%s logged in from %s", user.name, _place(request))
        answer = RedirectResponse(onward, 303, HEADERS)
        answer.set_cookie(
            access.cookie_name(config),
            access.SESSIONS.open(user, time.monotonic()),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer


async def _sent(request: Request) -> dict[str, str]:
    """The fields of the form; none if it is larger than ours can be."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _sent_away(request: Request) -> Response:
    """A person who opens a page is led to the login, a program hears what is missing."""
    if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", ""):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{LOGIN}?next={quote(wanted, safe='')}", 303, HEADERS)
    return PlainTextResponse("log in first", 401, HEADERS)


def _onward(wanted: str) -> str:
    """Where to go after the login: a page of ours, whatever the link says."""
    parts = urlsplit(wanted.replace("\\", "/"))
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith("/") and not parts.path.startswith("//")
    return wanted if is_ours and wanted.isprintable() and parts.path != LOGIN else "/"


def _is_own(request: Request) -> bool:
    """Whether the form was sent from a page of this server: no other site may log somebody in here."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _place(request: Request) -> str:
    return request.client.host if request.client else "an unknown place"


def _form(onward: str, fault: str = "", status: int = 200) -> Response:
    said = f'<p role="alert">{escape(fault)}</p>' if fault else ""
    return HTMLResponse(FORM.replace("{fault}", said).replace("{next}", escape(onward)), status, HEADERS)
