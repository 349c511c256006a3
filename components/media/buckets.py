"""Media in Google Cloud Storage: listed with their checksums, downloaded one at a time."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from components.errors import InputError
from components.media.pictures import MediaError

SCHEME = "gs://"


class Buckets:
    """Objects under gs://BUCKET/PREFIX. Credentials are Google's own defaults, taken from the environment."""

    def __init__(self):
        self._checksums: dict[str, str] = {}
        self._listed: set[tuple[str, str | None]] = set()

    @functools.cached_property
    def _client(self) -> Any:
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage

        try:
            return storage.Client()
        except (DefaultCredentialsError, OSError) as error:
            raise InputError(
                f"no access to Google Cloud Storage ({_first_line(error)}); set GOOGLE_APPLICATION_CREDENTIALS to a "
                "key file, or run where a service account is attached"
            ) from error

    def names(self, root: str) -> list[str]:
        """List the objects below a prefix, relative to it; what is hidden and folders' own markers are no media."""
        _split(root)
        prefix = root.rstrip("/") + "/"
        found = [location.removeprefix(prefix) for location in self._list(prefix)]
        return [name for name in found if name and not any(part.startswith(".") for part in name.split("/"))]

    def location(self, root: str, name: str) -> str:
        """Return the address of an object below a prefix; a whole address stands for itself."""
        return name if name.startswith(SCHEME) else f"{root.rstrip('/')}/{name}"

    def checksum(self, location: str) -> str:
        """Return the object's MD5 or CRC32C as the bucket keeps it, without downloading; "" where there is none."""
        if location not in self._checksums:
            self._list(location.rpartition("/")[0] + "/", delimiter="/")
        return self._checksums.get(location, "")

    @contextlib.contextmanager
    def fetch(self, location: str) -> Iterator[Path]:
        """Download an object to a temporary file for the length of a with block."""
        from google.api_core.exceptions import GoogleAPIError

        bucket, name = _split(location)
        with tempfile.TemporaryDirectory(prefix="ai-vs-real-") as folder:
            path = Path(folder, "object" + PurePosixPath(name).suffix)
            try:
                self._client.bucket(bucket).blob(name).download_to_filename(path)
            except (GoogleAPIError, OSError) as error:
                reason = "missing" if getattr(error, "code", None) == 404 else "unreadable"
                raise MediaError(reason, _first_line(error)) from error
            yield path

    def _list(self, prefix: str, delimiter: str | None = None) -> list[str]:
        """List the objects under a prefix, once, and remember their checksums."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        if (prefix, delimiter) not in self._listed:
            bucket, folder = _split(prefix)
            try:
                for blob in self._client.list_blobs(bucket, prefix=folder, delimiter=delimiter):
                    if not blob.name.endswith("/"):
                        self._checksums[f"{SCHEME}{bucket}/{blob.name}"] = blob.md5_hash or blob.crc32c
            except (GoogleAPIError, GoogleAuthError, OSError) as error:
                raise InputError(
                    f"{prefix} cannot be listed ({_first_line(error)}); check the name of the bucket and that the "
                    "account may list and read it (role Storage Object Viewer)"
                ) from error
            self._listed.add((prefix, delimiter))
        return [location for location in self._checksums if location.startswith(prefix)]


def _split(location: str) -> tuple[str, str]:
    bucket, _, name = location.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise InputError(f"{location!r} names no bucket; write gs://BUCKET/PREFIX")
    return bucket, name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
