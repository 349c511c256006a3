"""Media behind a link, fetched without lending the caller this machine's place in the network.

A link may name, directly, by a redirect or by a DNS record, an address that only this machine can reach: its own, a
private network's, or a cloud's metadata server, which hands out credentials (OWASP, Server-Side Request Forgery
Prevention). So a host is resolved here, every address must be public, and the connection is made to the address that
was checked. A redirect is a new link and is checked again.
"""

import contextlib
import http.client
import ipaddress
import os
import queue
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from components.errors import InputError
from components.redaction import redact

REDIRECTS = 5
CHUNK = 64 * 1024
MOVED = (301, 302, 303, 307, 308)
# Networks that translate to IPv4 addresses, and so may lead where the IPv4 address itself would be refused.
TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


@dataclass(frozen=True)
class LinkLimits:
    """The bounds of one link.

    Attributes:
        seconds: From the first look-up to the last byte, redirects included.
        megabytes: Size of the file, in 2**20 bytes.
        private: Whether addresses that are not public may be asked; for a user's own shell, never for a service.
    """

    seconds: float = 30.0
    megabytes: float = 200.0
    private: bool = False


def is_link(text: str) -> bool:
    """Return whether a text is a link that `fetch` takes: it begins with http:// or https://."""
    return text.lower().startswith(("http://", "https://"))


def fetch(link: str, directory: str | Path, limits: LinkLimits = LinkLimits()) -> Path:
    """Download the file behind a link.

    Args:
        link: An http or https address without user or password.
        directory: Where the file is written, under a name of our own: nothing of the link's name is used.
        limits: Its bounds.

    Returns:
        The file.

    Raises:
        InputError: The link is malformed, its host cannot be resolved or has an address that is not public, the server
            does not answer in time or answers with an error, or the file is too large.
    """
    shown = redact(link) if len(link) <= 200 else f"{redact(link)[:200]}..."
    deadline = time.monotonic() + limits.seconds
    for _ in range(REDIRECTS + 1):
        parts = _split(link, shown)
        with _response(parts, shown, deadline, limits) as response:
            if response.status in MOVED and response.headers.get("Location"):
                link = urljoin(link, response.headers["Location"])
                continue
            if response.status != 200:
                raise InputError(f"{shown} cannot be fetched: its server answers {response.status}")
            return _save(response, Path(directory), shown, deadline, limits)
    raise InputError(f"{shown} cannot be fetched: it redirects more than {REDIRECTS} times")


def _split(link: str, shown: str) -> SplitResult:
    try:
        parts = urlsplit(link)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{shown} is not a link: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{shown} is not accepted; a link begins with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{shown} is not accepted: a link may not carry a user or a password")
    if any(character.isspace() or not character.isprintable() for character in link):
        raise InputError(f"{shown!r} is not a link: white space and control characters must be percent-encoded")
    return parts


def _addresses(host: str, port: int, shown: str, deadline: float) -> list[str]:
    # The resolver cannot be given a time limit, so it is waited for in a thread that may be left behind.
    answers: queue.Queue = queue.Queue()

    def resolve() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise InputError(f"{shown} cannot be fetched: looking up its host took too long") from None
    if isinstance(answer, Exception):
        raise InputError(f"{shown} cannot be fetched: the host {host!r} cannot be resolved")
    return list(dict.fromkeys(entry[4][0] for entry in answer))


def is_public(address: str) -> bool:
    """Return whether an IP address, as text, is one that anybody on the internet could ask."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


@contextlib.contextmanager
def _response(
    parts: SplitResult, shown: str, deadline: float, limits: LinkLimits
) -> Iterator[http.client.HTTPResponse]:
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    addresses = _addresses(host, port, shown, deadline)
    if not limits.private and not all(map(is_public, addresses)):
        raise InputError(f"{shown} is refused: its host {host!r} is not a public address")
    late = threading.Event()
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(socket.create_connection((addresses[0], port), _left(deadline)))
            # A timeout of the socket is that of one read; a server that sends a byte now and then never meets it.
            timer = threading.Timer(_left(deadline), _hang_up, [connection, late])
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
            if secure:
                context = ssl.create_default_context()
                connection = stack.enter_context(context.wrap_socket(connection, server_hostname=host))
            client = http.client.HTTPConnection(host, port)
            client.default_port = 443 if secure else 80  # leaves the port out of the Host header
            client.sock = connection
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            client.request("GET", target, headers={"User-Agent": "ai-vs-real", "Accept-Encoding": "identity"})
            yield client.getresponse()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise InputError(f"{shown} cannot be fetched within {limits.seconds:g} s") from None
            raise InputError(f"{shown} cannot be fetched: {redact(str(error)) or type(error).__name__}") from None


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())


def _hang_up(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _save(response: http.client.HTTPResponse, directory: Path, shown: str, deadline: float, limits: LinkLimits) -> Path:
    most = int(limits.megabytes * 2**20)
    stated = response.headers.get("Content-Length", "")
    if stated.isdecimal() and int(stated) > most:
        raise InputError(f"{shown} is too large: {int(stated):,} bytes, where {most:,} are accepted")
    handle, name = tempfile.mkstemp(dir=directory, prefix="link-")
    size = 0
    try:
        with os.fdopen(handle, "wb") as file:
            while chunk := response.read(CHUNK):
                size += len(chunk)
                if size > most:
                    raise InputError(f"{shown} is too large: more than {most:,} bytes")
                file.write(chunk)
        if time.monotonic() > deadline or (stated.isdecimal() and size < int(stated)):
            raise InputError(f"{shown} cannot be fetched within {limits.seconds:g} s")
        if not size:
            raise InputError(f"{shown} is an empty file")
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)
