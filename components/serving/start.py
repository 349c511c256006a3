"""Starting the service: a supervisor, and the processes that answer."""

import asyncio
import json
import logging
import os
import socket
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from components.errors import InputError
from components.serving.bounds import Bounds, api_keys
from components.settings import DEFAULTS

VARIABLE = "AI_VS_REAL_SERVE"  # how the supervisor tells its processes what to serve
APPLICATION = "components.serving.start:application"
GRACE_S = 30  # for the requests under way, at the end
RESPONSE_S = 60  # of a process, before the supervisor takes it for stuck


@dataclass(frozen=True)
class Options:
    """What is served.

    Attributes:
        model: Which detector; see `components.prediction.selection.select`. Empty for the champion of the registry.
        model_name: Name of the registered model.
        every_s: Seconds between two looks at the registry.
        home: The run home whose review set takes files; empty where none are kept.
        hosts: Names under which the service may be called; empty for any.
        bounds: What is accepted.
    """

    model: str = ""
    model_name: str = DEFAULTS["model_name"]
    every_s: float = 10.0
    home: str = ""
    hosts: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)


def serve(options: Options, host: str, port: int, processes: int) -> None:
    """Serve until the process is asked to end; then requests under way are answered first.

    A process that dies is replaced; connections wait in the meantime.

    Args:
        options: What is served.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        processes: How many answer; each loads the detector.

    Raises:
        InputError: The address cannot be listened on.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    listening = _listen(host, port)
    os.environ[VARIABLE] = json.dumps(asdict(options))
    config = uvicorn.Config(
        APPLICATION,
        factory=True,
        workers=processes,
        log_config=None,
        access_log=False,  # the service writes its own, as JSON
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=RESPONSE_S,
        h11_max_incomplete_event_size=32 * 1024,
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"Listening on http://{shown}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    Multiprocess(config, sockets=[listening]).run()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {host} port {port}: {cause}; choose another --host or --port") from None
    listening.set_inheritable(True)
    return listening


def application() -> Any:
    """Return the application of one process, as the supervisor described it in the environment."""
    from components.media.workers import Limits, Workers
    from components.prediction.examiner import Examiner
    from components.prediction.selection import Selected
    from components.review import ReviewSet
    from components.serving.app import create_app
    from components.serving.champion import champion_of, fixed

    _log_as_json()
    given = json.loads(os.environ[VARIABLE])
    options = Options(**{**given, "hosts": tuple(given["hosts"]), "bounds": Bounds(**given["bounds"])})
    bounds = options.bounds
    reading = Limits(seconds=bounds.read_seconds, memory_mb=bounds.read_megabytes)
    workers = Workers(bounds.at_once, reading)

    def open_examiner(selected: Selected) -> Examiner:
        version, limits = selected.version, selected.limits
        return Examiner(
            selected.directory, workers=workers, version=version, limits=limits, longest_s=bounds.video_seconds
        )

    if options.model:
        champion = fixed(options.model, options.model_name, open_examiner)
    else:
        champion = champion_of(options.model_name, open_examiner, options.every_s)
    review = ReviewSet(options.home) if options.home else None
    return create_app(
        champion,
        bounds,
        review,
        model_name=options.model_name,
        keys=api_keys(),
        hosts=options.hosts,
        at_end=lambda: asyncio.to_thread(workers.close),
    )


def _log_as_json() -> None:
    # One JSON document a line; uvicorn's own lines are put into one.
    class AsJson(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            message = record.getMessage()
            about = json.loads(message) if message.startswith("{") else {"event": message}
            if record.exc_info:
                about["exception"] = self.formatException(record.exc_info)
            return json.dumps({"time": self.formatTime(record), "level": record.levelname.lower(), **about})

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AsJson())
    for name in ("uvicorn", "ai_vs_real"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
