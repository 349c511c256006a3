"""Keeping secrets out of what is written: one function for every error, log line, record and page."""

import os
import re
import traceback
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
SHORTEST = 4  # characters of a known secret that is searched for by itself: a shorter one would match ordinary words

_SECRET = (
    r"passw(?:or)?d|passphrase|secret|token|credential|signature|authorization|cookie|(?:api|access|private)[_-]?key"
)
# The second form is `user:password@` without its scheme, as errors quote it.
# Up to white space, a double quote or an angle bracket: none of them can stand in a URI, all else may be in a password.
_URI = re.compile(
    r"\b(?P<scheme>[a-z][a-z0-9+.-]{0,30}):(?P<slashes>/{2,})(?P<rest>[^\s\"<>]+)"
    r"|(?<![\w/])[\w.%+~-]{1,80}:(?!/)[^\s\"'<>]{1,300}@(?!sha256:)(?=[\w\[])",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    rf"((?:{_SECRET}|pwd)[\w.-]{{0,40}}\\?[\"']?\s*[=:]\s*)(\\?[\"'])((?:(?!\2).)*)\2", re.IGNORECASE | re.DOTALL
)
# An ampersand that begins no further `name=value` belongs to the value.
_NAMED = re.compile(
    rf"((?:{_SECRET}|pwd)[\w.-]{{0,40}}[=:])(?!//)[^\s&\"']+(?:&[^\s&=\"']*(?=[&\s\"']|$))*", re.IGNORECASE
)
_HEADER = re.compile(r"\b((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)(?:[a-z]{1,20}\s+)?[^\s\"',]+", re.IGNORECASE)
_COOKIE = re.compile(r"\b((?:set-)?cookie:\s+)[^\s=]+=\S*(?:\s+[^\s=]+=\S*)*", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/=-]{12,}", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_SPEAKS = re.compile(rf"{_SECRET}|pwd|bearer", re.IGNORECASE)
_VARIABLE = re.compile(rf"{_SECRET}|(?:^|_)key$", re.IGNORECASE)


def redact(text: str) -> str:
    """Return a text without the secrets in it.

    Masked are the user and password of every URI, also where they hold `@ : / ? # %` unescaped, and its query; the
    values of names that speak of a secret, such as `tlsCertificateKeyFilePassword=`, `"token": "..."` or an
    `Authorization` header; private keys in PEM; and, wherever they stand, the secrets that the environment holds, with
    the pieces into which a library may have split one that it misread. A text may lose more than its secrets (an `@`
    in a URI's path hides what is before it), never less. Applying it twice changes nothing.

    Args:
        text: Any text: an error, a line of a log, a URI.

    Returns:
        The text with `***` in place of each secret.
    """
    text = _PEM.sub(MASK, text)
    if "@" in text or "://" in text:
        text = _URI.sub(_masked_uri, text)
    if _SPEAKS.search(text):  # the patterns below are slow, and most lines need none of them
        text = _named(text)
    for secret in sorted(set(_known_secrets()), key=len, reverse=True):
        before = r"(?<!\w)" if secret[0].isalnum() else ""
        after = r"(?!\w)" if secret[-1].isalnum() else ""
        text = re.sub(f"{before}{re.escape(secret)}{after}", MASK, text)
    return text


def _named(text: str) -> str:
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _COOKIE.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _QUOTED.sub(rf"\1\2{MASK}\2", text)
    return _NAMED.sub(rf"\1{MASK}", text)


def safe_cause(error: BaseException) -> BaseException | None:
    """Return an error for `raise ... from`, or None where its traceback, with all its causes, would show a secret.

    Args:
        error: What a library raised.
    """
    whole = "".join(traceback.format_exception(error))
    return error if redact(whole) == whole else None


def _masked_uri(match: re.Match[str]) -> str:
    scheme, slashes, rest = match.groups()
    if scheme is None:
        return f"{MASK}@"
    if scheme.lower() not in ("file", "sqlite"):  # whose paths may hold an `@`, and no password
        user, at, place = rest.rpartition("@")
        if re.search(r"[?&][\w.%-]+=", user):  # a password with a query in it, or a query with an `@`: who can say
            return f"{scheme}:{slashes}{MASK}"
        rest = f"{MASK}@{place}" if at else rest
    path, mark, query = rest.partition("?")
    end = query[len(query.rstrip(".,;:!)}]'")) :]  # the sentence's, not the query's
    if query != end:
        rest = f"{path}{mark}{MASK}{end}"
    return f"{scheme}:{slashes}{rest}"


def _known_secrets() -> Iterator[str]:
    """Yield the secrets in the environment, as they stand there and as a library may write them."""
    for name, value in os.environ.items():
        secrets = []
        if _VARIABLE.search(name) and not os.path.exists(value):
            secrets.append(value)
        if re.match(r"[a-z][a-z0-9+.-]*://", value, re.IGNORECASE):
            secrets += _secrets_of_uri(value)
        for secret in secrets:
            plain = unquote(secret)
            forms = {secret, plain, quote(plain, safe=""), quote(plain), quote_plus(plain)}
            pieces = [*re.split(r"[@:/?#&=;,+]", secret), *re.split(r"[@:/?#%&=;,+]", plain)]
            forms |= {form for piece in pieces for form in (piece, unquote(piece))}
            yield from (form for form in forms if len(form) >= SHORTEST)


def _secrets_of_uri(uri: str) -> Iterator[str]:
    user, at, place = uri.partition("://")[2].rpartition("@")
    if at:
        name, colon, password = user.partition(":")
        yield password if colon else name
    for pair in place.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if re.search(_SECRET, pair, re.IGNORECASE):
            yield value.partition(":")[2] if re.search(_SECRET, value, re.IGNORECASE) else value
