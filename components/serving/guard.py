"""What stands before every route: the size and pace of a body, who may call, and the headers of every response."""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OPEN = ("/", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
log = logging.getLogger("ai_vs_real.requests")


class Guard:
    """ASGI middleware around the service.

    Args:
        app: The service.
        most_bytes: Of a body.
        upload_seconds: From the start of a request to the last byte of its body.
        keys: API keys; where there are any, every route but the page's and the probes' asks for one.
        hosts: Names under which the service may be called; empty for any. It keeps a web page elsewhere from reaching
            a service on the reader's own machine under a name of its choice (DNS rebinding).
        observe: Is called with method, route, status and seconds of each request.
    """

    def __init__(
        self,
        app: Any,
        most_bytes: int,
        upload_seconds: float,
        keys: Sequence[str] = (),
        hosts: Sequence[str] = (),
        observe: Callable[[str, str, int, float], None] = lambda *_: None,
    ):
        self._app, self._most, self._seconds = app, most_bytes, upload_seconds
        self._keys, self._hosts, self._observe = tuple(keys), tuple(hosts), observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, sent = time.monotonic(), 499, 0  # 499: the client hung up before an answer
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def answer(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name.lower() for name, _ in message.get("headers", [])}
                more = {"cache-control": "no-store", **HEADERS}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in more.items() if name.encode() not in own),
                ]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal:
                await self._discard(receive, start)
                await _respond(answer, *refusal)
            else:
                await self._app(scope, self._bounded(receive, headers, start), answer)
        finally:
            seconds = time.monotonic() - start
            route = getattr(scope.get("route"), "path", "other")
            self._observe(scope["method"], route, status, seconds)
            event = {"event": "request", "method": scope["method"], "route": route, "status": status}
            log.info(json.dumps({**event, "seconds": round(seconds, 4), "bytes": sent, **scope.get("about", {})}))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        if self._hosts and _host(headers.get("host", "")) not in self._hosts:
            return 421, "this service is not called by that name; see --allowed-host"
        # A browser says where a request comes from; a page elsewhere has no business here (no CORS).
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["method"] not in ("GET", "HEAD"):
            return 403, "requests from pages of other sites are refused"
        path = scope["path"]
        if self._keys and path not in OPEN and not path.startswith("/assets/"):
            given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
            # Every key is compared, and in constant time, so that timing reveals nothing.
            if not sum(hmac.compare_digest(given.encode(), key.encode()) for key in self._keys):
                return 401, "an API key is needed: send it as X-API-Key"
        stated = headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._most:
            return 413, self._too_large()
        return None

    async def _discard(self, receive: Receive, start: float) -> None:
        # A browser that is still sending when the connection is closed never reads the answer. So as much is read as
        # would have been accepted twice, and no longer than an upload may take.
        left = 2 * self._most
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, start + self._seconds - time.monotonic())):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break

    def _too_large(self) -> str:
        return f"the upload is larger than {self._most:,} bytes"

    def _bounded(self, receive: Receive, headers: dict[str, str], start: float) -> Receive:
        size, whole = 0, False

        async def bounded() -> Message:
            nonlocal size, whole
            if whole:  # only the hang-up is waited for, however long the answer takes
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, start + self._seconds - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                late = f"the upload did not arrive within {self._seconds:g} s"
                raise HTTPException(408, late, headers={"connection": "close"}) from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self._most:
                raise HTTPException(413, self._too_large(), headers={"connection": "close"})
            return message

        return bounded


def _host(value: str) -> str:
    # [::1]:8080 and localhost:8080 alike.
    return value.rpartition("]")[0].removeprefix("[") if value.startswith("[") else value.partition(":")[0]


async def _respond(send: Send, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 413:
        head.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
