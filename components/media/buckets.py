"""Media in Google Cloud Storage: listed page by page with checksums, downloaded as needed, verified, written back.

Every answer that may pass (429, 5xx, a connection that breaks or says nothing) is asked for again, later and later,
until `servers.timeout_s` have passed since the last byte that came; a download goes on at the byte where it broke off.
What was downloaded must have the size and the checksum that the listing said.
"""

import base64
import contextlib
import functools
import gzip
import hashlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.errors import InputError
from components.media.pictures import MediaError
from components.redaction import redact, safe_cause
from components.servers import timeout_s

SCHEME = "gs://"
CONNECTIONS = 32  # at a time to the bucket, over all downloads
PART_BYTES = 16 * 1024 * 1024  # of a large object that is downloaded in ranges
PARTS_AT_ONCE = 4
PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # before asking again: doubled each time
READ_BYTES = 1024 * 1024
PASSING = (408, 429, 500, 502, 503, 504)  # HTTP answers after which asking again may help
FIELDS = "items(name,size,generation,md5Hash,crc32c,contentEncoding),nextPageToken"


@dataclass(frozen=True)
class _Listed:
    """An object as the listing has it."""

    size: int
    generation: int | None
    md5: str
    crc32c: str
    encoding: str


class Buckets:
    """Objects under gs://BUCKET/PREFIX. Credentials are Google's own defaults, taken from the environment."""

    def __init__(self):
        self._objects: dict[str, _Listed] = {}
        self._listed: set[tuple[str, str | None]] = set()

    @functools.cached_property
    def _client(self) -> Any:
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage
        from requests.adapters import HTTPAdapter

        try:
            client = storage.Client()
        except (DefaultCredentialsError, OSError) as error:
            raise InputError(
                f"no access to Google Cloud Storage ({_first_line(error)}); set GOOGLE_APPLICATION_CREDENTIALS to a "
                "key file, or run where a service account is attached"
            ) from safe_cause(error)
        session, endpoint = client._http, client._connection.get_api_base_url_for_mtls()
        for scheme in ("https://", "http://"):  # requests keeps ten connections, and closes any further after each use
            session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        # The environment's proxies and certificates, read once: requests looks for them
        # at each request anew, which costs as much as a small download.
        settings = session.merge_environment_settings(endpoint, {}, None, None, None)
        session.proxies, session.verify, session.trust_env = settings["proxies"], settings["verify"], False
        return client

    def names(self, root: str) -> list[str]:
        """List the objects below a prefix, relative to it; what is hidden and folders' own markers are no media."""
        _split(root)
        prefix = root.rstrip("/") + "/"
        listed = [location.removeprefix(prefix) for location in self._list(prefix)]
        return [name for name in listed if name and not any(part.startswith(".") for part in name.split("/"))]

    def location(self, root: str, name: str) -> str:
        """Return the address of an object below a prefix; a whole address stands for itself."""
        return name if name.startswith(SCHEME) else f"{root.rstrip('/')}/{name}"

    def inside(self, root: str, name: str) -> bool:
        """Say whether a name leads to something below the prefix; a bucket has no links."""
        return True

    def checksum(self, location: str) -> str:
        """Return the object's MD5 or CRC32C as the bucket keeps it, without downloading; "" where there is none."""
        if location not in self._objects:
            self._list(location.rpartition("/")[0] + "/", delimiter="/")
        listed = self._objects.get(location)
        return (listed.md5 or listed.crc32c) if listed else ""

    @contextlib.contextmanager
    def fetch(self, location: str) -> Iterator[Path]:
        """Download an object to a temporary file for the length of a with block.

        Raises:
            MediaError: There is no such object.
            InputError: It changed after it was listed, it cannot be read, or the bucket does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="ai-vs-real-") as folder:
            path = Path(folder, "object" + PurePosixPath(_split(location)[1]).suffix)
            if not self.checksum(location):
                raise MediaError("missing", f"{location} is not in the bucket")
            self._download(location, self._objects[location], path)
            yield path

    def write(self, path: Path, location: str) -> None:
        """Write a file to an object, in place of the one of that name if there is one.

        Raises:
            InputError: The location names no object, or the bucket does not take it.
        """
        bucket, name = _split(location)
        if not name or name.endswith("/"):
            raise InputError(f"{location!r} names no object of the bucket; write gs://BUCKET/NAME")
        blob = self._client.bucket(bucket).blob(name)
        pause = _Pause()
        while True:
            try:
                blob.upload_from_filename(path, checksum="crc32c", retry=None, timeout=timeout_s())
                break
            except Exception as error:
                _give_up(error, location, "written", "Storage Object User")
                pause.wait(error, location)
        self._objects.pop(location, None)

    def _list(self, prefix: str, delimiter: str | None = None) -> list[str]:
        """List the objects under a prefix, once, and remember what the listing says of them."""
        known = any(prefix.startswith(whole) for whole, cut in self._listed if cut is None)
        if not known and (prefix, delimiter) not in self._listed:
            bucket, folder = _split(prefix)
            options: dict[str, Any] = {"prefix": folder, "delimiter": delimiter, "fields": FIELDS, "page_size": 1000}
            token: str | None = None
            pause = _Pause()
            while True:
                try:
                    pages = self._client.list_blobs(
                        bucket, page_token=token, retry=None, timeout=timeout_s(), **options
                    )
                    page = next(pages.pages, ())
                    for blob in page:
                        self._remember(bucket, blob)
                    token = pages.next_page_token
                    pause = _Pause()
                    if not token:
                        break
                except Exception as error:
                    _give_up(error, prefix, "listed", "Storage Object Viewer")
                    pause.wait(error, prefix)
            self._listed.add((prefix, delimiter))
        return [location for location in self._objects if location.startswith(prefix)]

    def _remember(self, bucket: str, blob: Any) -> None:
        if not blob.name.endswith("/"):
            self._objects[f"{SCHEME}{bucket}/{blob.name}"] = _Listed(
                blob.size or 0, blob.generation, blob.md5_hash or "", blob.crc32c or "", blob.content_encoding or ""
            )

    def _download(self, location: str, listed: _Listed, path: Path) -> None:
        pause = _Pause()
        while True:
            self._read(location, listed, path)
            if path.stat().st_size == listed.size and _intact(path, listed):
                break
            self._require_unchanged(location, listed)
            pause.wait(ValueError("the bytes that came are not those of the checksum"), location)
        if listed.encoding == "gzip":
            part = path.with_name(f"plain{path.suffix}")
            with gzip.open(path) as packed, open(part, "wb") as file:
                shutil.copyfileobj(packed, file, READ_BYTES)
            os.replace(part, path)

    def _read(self, location: str, listed: _Listed, path: Path) -> None:
        starts = range(0, max(listed.size, 1), PART_BYTES)
        path.touch()
        os.truncate(path, listed.size if len(starts) > 1 else 0)
        if len(starts) == 1:
            self._read_range(location, listed, path, 0, listed.size)
            return
        with ThreadPoolExecutor(PARTS_AT_ONCE, "range") as pool:
            ends = [min(start + PART_BYTES, listed.size) for start in starts]
            reading = [
                pool.submit(self._read_range, location, listed, path, *part) for part in zip(starts, ends, strict=True)
            ]
            for future in reading:
                future.result()

    def _read_range(self, location: str, listed: _Listed, path: Path, start: int, end: int) -> None:
        """Write the bytes from `start` up to `end` of an object to their place in a file."""
        if start == end:
            return
        bucket, name = _split(location)
        blob = self._client.bucket(bucket).blob(name)
        blob.content_encoding = listed.encoding or None
        whole = start == 0 and end == listed.size
        pause, place = _Pause(), start
        with open(path, "r+b") as file:
            while place < end:
                file.seek(place)
                try:
                    blob.download_to_file(
                        file,
                        start=None if whole and place == start else place,
                        end=None if whole and place == start else end - 1,
                        raw_download=True,
                        if_generation_match=listed.generation,
                        checksum=None,
                        retry=None,
                        timeout=timeout_s(),
                    )
                    came = file.tell()
                    if came < end:
                        raise ConnectionError(f"it broke off after {came - place:,} bytes")
                    return
                except Exception as error:
                    if getattr(error, "code", None) in (404, 412):
                        self._require_unchanged(location, listed)
                    _give_up(error, location, "read", "Storage Object Viewer")
                    came = min(file.tell(), end)
                    pause = _Pause() if came > place else pause
                    place = came
                    pause.wait(error, location)

    def _require_unchanged(self, location: str, listed: _Listed) -> None:
        bucket, name = _split(location)
        pause = _Pause()
        while True:
            try:
                blob = self._client.bucket(bucket).get_blob(name, retry=None, timeout=timeout_s())
                break
            except Exception as error:
                _give_up(error, location, "read", "Storage Object Viewer")
                pause.wait(error, location)
        now = blob and (blob.size, blob.md5_hash or "", blob.crc32c or "")
        if now != (listed.size, listed.md5, listed.crc32c):
            what = "changed" if blob else "was deleted"
            raise InputError(
                f"{location} {what} after it was listed; leave the media alone while a run reads them, and run again"
            )


class _Pause:
    """Waits before asking again, later and later, within the bound that began with it."""

    def __init__(self):
        self.begun: float | None = None
        self.seconds = PAUSE_S

    def wait(self, error: Exception, location: str) -> None:
        """Wait, or give up.

        Raises:
            InputError: The bound has passed.
        """
        now = time.monotonic()
        self.begun = self.begun or now
        left = self.begun + timeout_s() - now
        if left <= 0:
            raise InputError(
                f"Google Cloud Storage did not give {location} within {timeout_s():g} s ({_first_line(error)}); "
                "run again once it answers"
            ) from safe_cause(error)
        time.sleep(min(left, self.seconds * random.uniform(0.5, 1.0)))
        self.seconds = min(2 * self.seconds, LONGEST_PAUSE_S)


def _give_up(error: Exception, location: str, verb: str, role: str) -> None:
    """Raise what asking again would not change; return where it may."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import InvalidResponse

    if isinstance(error, InputError | MediaError):
        raise error
    bucket = _split(location)[0]
    code = getattr(error, "code", None)
    if isinstance(error, InvalidResponse):
        code = error.response.status_code
    reasons: dict[Any, Callable[[], str]] = {
        401: lambda: "the credentials are not accepted; check GOOGLE_APPLICATION_CREDENTIALS",
        403: lambda: f"the account has no permission; give it the role {role} on {SCHEME}{bucket}",
        404: lambda: f"there is no bucket {bucket}, or no such object; check the name",
    }
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        raise InputError(f"{location} cannot be {verb}: {_first_line(error)}; {reasons[401]()}") from safe_cause(error)
    if isinstance(error, GoogleAPICallError | InvalidResponse) and code not in PASSING:
        why = reasons.get(code, lambda: f"{_first_line(error)}; check the name and the account")()
        raise InputError(f"{location} cannot be {verb} (HTTP {code}): {why}") from safe_cause(error)


def _intact(path: Path, listed: _Listed) -> bool:
    """Say whether a file has the checksum of the listing: the quicker of the two where both are known."""
    if listed.crc32c:
        import google_crc32c

        digest: Any = google_crc32c.Checksum()
        expected = listed.crc32c
    elif listed.md5:
        digest, expected = hashlib.md5(usedforsecurity=False), listed.md5
    else:
        return True
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return base64.b64encode(digest.digest()).decode() == expected


def _split(location: str) -> tuple[str, str]:
    bucket, _, name = location.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise InputError(f"{location!r} names no bucket; write gs://BUCKET/PREFIX")
    return bucket, name


def _first_line(error: Exception) -> str:
    return redact((str(error).splitlines() or [type(error).__name__])[0])[:300]
