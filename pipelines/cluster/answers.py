"""What the generated clients of Kubernetes and Kubeflow Pipelines leave open: an answer in time, whole and in shape."""

import json
from typing import Any

from components.servers import bounded, timeout_s


class Unanswered(Exception):  # noqa: N818 (it names what happened, as urllib3's own do)
    """A server did not answer in time, or with something that is no answer.

    Attributes:
        body: The beginning of what it sent; empty where it sent nothing whole.
    """

    def __init__(self, message: str, body: str = ""):
        super().__init__(message)
        self.body = body


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
        rest["_request_timeout"] = (seconds, seconds)
        try:
            return bounded(send, method, url, seconds=seconds, **rest)
        except TimeoutError as error:
            raise Unanswered(str(error)) from error

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
