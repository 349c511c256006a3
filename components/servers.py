"""How long a server may take to answer: one bound for MLflow, MongoDB, Kubernetes and Kubeflow Pipelines."""

import math
import os

from components.errors import InputError

VARIABLE = "AI_VS_REAL_SERVER_TIMEOUT_S"
DEFAULT_S = 30


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
