"""What the generated clients of Kubernetes and Kubeflow Pipelines leave open: an answer in time, whole and in shape."""

import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from components.servers import timeout_s

Answer = TypeVar("Answer")


class Unanswered(Exception):  # noqa: N818 (it names what happened, as urllib3's own do)
    """A server did not answer in time, or with something that is no answer.

    Attributes:
        body: The beginning of what it sent; empty where it sent nothing whole.
    """

    def __init__(self, message: str, body: str = ""):
        super().__init__(message)
        self.body = body


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """Return what a call returns, or give up on it.

    A socket's own timeout starts anew with each byte, so a server that drips holds a caller for as long as it likes.

    Args:
        seconds: For the whole call.
        call: It goes on in a thread that does not keep the process alive when it is given up.

    Raises:
        Unanswered: The call did not end in time.
    """
    outcome: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:  # handed to the caller's thread
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    # In slices: a thread that waits for another is not woken by ctrl-C before its wait ends on some platforms.
    end = time.monotonic() + seconds
    while thread.is_alive() and (left := end - time.monotonic()) > 0:
        thread.join(min(left, 0.5))
    if not outcome:
        raise Unanswered(f"no whole answer in {seconds:g} s")
    worked, value = outcome[0]
    if not worked:
        raise value
    return value


def keep(api_client: Any) -> None:
    """Have a generated API client answer in time and in shape, or raise Unanswered.

    Both clients honour a timeout only as an int or a pair (`rest.py` of each), restart it with each byte, and make an
    empty object of a list.

    Args:
        api_client: A kubernetes.client.ApiClient or a kfp_server_api.ApiClient. Calls with `_preload_content=False`
            are bounded until the headers are there, and then between two pieces of the body.
    """
    if getattr(api_client, "_keeps", False):
        return
    api_client._keeps = True
    send, read = api_client.request, api_client.deserialize

    def request(method: str, url: str, **rest: Any) -> Any:
        seconds = timeout_s()
        own = math.ceil(seconds)
        rest["_request_timeout"] = rest.get("_request_timeout") or (own, own)
        return within(seconds, lambda: send(method, url, **rest))

    def deserialize(response: Any, kind: Any) -> Any:
        if isinstance(kind, str) and kind not in ("str", "object", "file") and "[" not in kind and "(" not in kind:
            text = response.data if isinstance(response.data, str) else bytes(response.data).decode(errors="replace")
            try:
                whole = isinstance(json.loads(text), dict)
            except ValueError:
                whole = False
            if not whole:
                shown = " ".join(text.split())[:60]
                raise Unanswered(f"it answers {shown!r} where an object is expected", text[:200])
            try:
                return read(response, kind)
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise Unanswered(
                    f"its answer is no {kind} ({' '.join(str(error).split())[:100]})", text[:200]
                ) from error
        return read(response, kind)

    api_client.request, api_client.deserialize = request, deserialize
