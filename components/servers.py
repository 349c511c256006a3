"""How long a server may take to answer: one bound for MLflow, MongoDB, Kubernetes and Kubeflow Pipelines."""

import math
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from components.errors import InputError

VARIABLE = "AI_VS_REAL_SERVER_TIMEOUT_S"
DEFAULT_S = 30
SLOWEST_BYTES_PER_S = 1_000_000  # what a transfer is given on top of the bound: a network slower than that has failed

Answer = TypeVar("Answer")


class ServerError(InputError):
    """A server did not answer, or not in time: nothing more is to be asked of it."""


def timeout_s() -> int:
    """Return the seconds that pass at most from a server's first failure to the error that reports it.

    An int, because the generated clients of Kubernetes and Kubeflow Pipelines ignore a float without a word.

    Raises:
        InputError: AI_VS_REAL_SERVER_TIMEOUT_S is set to something else than a positive number of seconds.
    """
    given = os.environ.get(VARIABLE, "") or str(DEFAULT_S)
    try:
        seconds = math.ceil(float(given))
    except (ValueError, OverflowError):
        seconds = 0
    if seconds < 1:
        raise InputError(f"{VARIABLE} is {given!r}; give seconds, such as {DEFAULT_S}")
    return seconds


def transfer_s(size: int) -> float:
    """Return the seconds that a transfer may take.

    Args:
        size: Of what is transferred, in bytes.

    Returns:
        The bound of one answer, and what the bytes take on the slowest network that is accepted.
    """
    return timeout_s() + size / SLOWEST_BYTES_PER_S


def bounded(function: Callable[..., Answer], *given: Any, seconds: float, **named: Any) -> Answer:
    """Call a function that waits for a server, and give up after a time whatever the server does.

    A time limit on a socket is not enough: it begins anew with every byte that drips in, and again with every retry of
    a client. The function runs in a thread of its own, which is left behind where it does not come back, and which does
    not keep the process from ending.

    Args:
        function: What to call.
        *given: Its arguments.
        seconds: How long to wait for it.
        **named: Its named arguments.

    Returns:
        What the function returns.

    Raises:
        TimeoutError: The function did not come back in time.
        Exception: What the function raises.
    """
    outcome: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((function(*given, **named), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=work, name=f"waits {seconds:.0f} s", daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer
