"""The service: routes, and what ties them to the detector, the queue and the review set."""

import asyncio
import base64
import binascii
import json
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from components.containers import VERSION
from components.errors import InputError
from components.prediction.links import LinkLimits, fetch
from components.redaction import redact
from components.review import LONGEST_NOTE, FullError, ReviewSet
from components.serving import answers
from components.serving.bounds import Bounds
from components.serving.champion import Champion, Served
from components.serving.desk import BusyError, Desk
from components.serving.guard import Guard
from components.serving.meters import Meters
from components.settings import DEFAULTS

PAGE = Path(__file__).resolve().parent / "page"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": answers.Problem, "description": text}
    for status, text in {
        400: "The request is malformed.",
        401: "An API key is needed.",
        403: "The request comes from a page of another site.",
        408: "The upload did not arrive in time.",
        413: "The upload is too large.",
        421: "The service is not called by that name.",
        422: "The file cannot be read, or a field has a value that is not accepted.",
        429: "The queue is full; Retry-After says when to try again.",
        503: "There is no detector yet.",
        504: "The answer took too long.",
    }.items()
}
log = logging.getLogger("ai_vs_real.service")


class Service:
    """What the routes share.

    Args:
        champion: The detector that answers.
        bounds: What is accepted.
        review: Where files are kept for review; None where the service keeps none.
        model_name: Of the registered model, for who asks.
    """

    def __init__(self, champion: Champion, bounds: Bounds, review: ReviewSet | None, model_name: str):
        self.champion, self.bounds, self.review, self.model_name = champion, bounds, review, model_name
        self.desk = Desk(bounds.at_once, bounds.queued)
        self.meters = Meters(self)

    def served(self) -> Served:
        """Return the detector.

        Raises:
            HTTPException: There is none yet (503).
        """
        if self.champion.served is None:
            raise HTTPException(503, "no detector answers yet; /health/ready says why", headers={"retry-after": "5"})
        return self.champion.served

    async def examine(
        self, request: Request, bring: Callable[[Path], Path], *, explain: bool = False, delivery_test: bool = True
    ) -> dict[str, Any]:
        """Queue a file and wait for its verdict, or for the caller to hang up.

        Args:
            request: Of the caller.
            bring: Puts the file into a directory of its own and returns its path; it runs in the queue's thread.
            explain: Whether a heat map is wanted.
            delivery_test: Whether the delivery test is wanted.
        """
        served = self.served()

        def work() -> dict[str, Any]:
            with _directory() as directory:
                path = bring(directory)
                return served.examiner.examine(path, explain=explain, delivery_test=delivery_test).to_json()

        start = time.monotonic()
        try:
            future = self.desk.submit(work)
        except BusyError as busy:
            raise HTTPException(429, str(busy), headers={"retry-after": str(busy.retry_after_s)}) from None
        waiting: asyncio.Future[Any] = asyncio.wrap_future(future)
        gone: asyncio.Future[Any] = asyncio.ensure_future(_hung_up(request))
        try:
            await asyncio.wait([waiting, gone], timeout=self.bounds.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                future.cancel()  # gives the place in the queue back; what is under way ends by its own bounds
                raise HTTPException(504, f"no answer within {self.bounds.answer_seconds:g} s")
            answer = waiting.result()
        finally:
            gone.cancel()
        if answer.get("error"):
            raise HTTPException(422, f"the file cannot be read: {answer['error']}")
        self.meters.examined(answer["verdict"], answer["kind"], time.monotonic() - start)
        request.scope["about"] = {"verdict": answer["verdict"], "version": served.version}
        answer.pop("path", None)
        answer.pop("error", None)
        return answer


def create_app(
    champion: Champion,
    bounds: Bounds | None = None,
    review: ReviewSet | None = None,
    *,
    model_name: str = DEFAULTS["model_name"],
    keys: Sequence[str] = (),
    hosts: Sequence[str] = (),
    at_end: Callable[[], Awaitable[Any]] | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        champion: The detector that answers; it is started and closed with the application.
        bounds: What is accepted.
        review: Where files are kept for review; left out, the service keeps none.
        model_name: Name of the registered model.
        keys: API keys; empty: none is asked for.
        hosts: Names under which it may be called; empty for any.
        at_end: Is awaited when the last request has been answered.
    """
    bounds = bounds or Bounds()
    service = Service(champion, bounds, review, model_name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        champion.start()
        yield
        champion.close()
        await asyncio.to_thread(service.desk.close)
        if at_end:
            await at_end()

    app = FastAPI(
        title="ai-vs-real",
        version=VERSION,
        description="Judges whether pictures and videos are real or AI-generated.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        responses=PROBLEMS,
    )
    app.add_middleware(
        Guard,
        most_bytes=bounds.bytes + 64 * 1024,  # the form around the file
        upload_seconds=bounds.upload_seconds,
        keys=keys,
        hosts=hosts,
        observe=service.meters.request,
    )
    app.state.service = service
    _add_problems(app)
    _add_verdicts(app, service)
    _add_review(app, service)
    _add_probes(app, service)
    _add_inference_protocol(app, service)
    _add_page(app)
    return app


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": redact(str(error.detail))}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(InputError)
    async def wrong(_: Request, error: InputError) -> Response:
        return JSONResponse({"error": redact(str(error))}, 422)

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> Response:
        log.error(json.dumps({"event": "defect", "error": redact(f"{type(error).__name__}: {error}")}))
        return JSONResponse({"error": "the service failed; its log says how"}, 500)


def _add_verdicts(app: FastAPI, service: Service) -> None:
    @app.post("/api/verdicts", response_model=answers.Verdict)
    async def examine_upload(
        request: Request,
        file: Annotated[UploadFile, File(description="A picture or a video.")],
        explain: Annotated[bool, Form(description="Whether a heat map is wanted.")] = False,
        delivery_test: Annotated[bool, Form(description="Whether the delivery test is wanted.")] = True,
    ) -> dict[str, Any]:
        """Examine an uploaded file. It is kept no longer than the answer takes."""
        wanted = {"explain": explain, "delivery_test": delivery_test}
        return await service.examine(request, lambda directory: _saved(file, directory), **wanted)

    @app.post("/api/links", response_model=answers.Verdict)
    async def examine_link(request: Request, body: answers.Link) -> dict[str, Any]:
        """Fetch a file from a public address and examine it."""
        limits = LinkLimits(service.bounds.link_seconds, service.bounds.megabytes, service.bounds.private_links)
        wanted = {"explain": body.explain, "delivery_test": body.delivery_test}
        return await service.examine(request, lambda directory: fetch(body.link, directory, limits), **wanted)

    @app.get("/api/model", response_model=answers.Model)
    async def describe_model() -> dict[str, Any]:
        """Describe the detector that answers."""
        served = service.served()
        card = served.examiner.card
        shown = ("backbone", "recipe", "view", "threshold", "abstention", "sources", "versions")
        return {
            "name": service.model_name,
            "version": served.version,
            "digest": served.digest,
            "largest_bytes": service.bounds.bytes,
            "loaded_at": datetime.fromtimestamp(served.since, UTC).isoformat(timespec="seconds"),
            "package": VERSION,
            "note": str(card.get("note", "")),
            "limits": list(served.limits),
            "card": {name: card[name] for name in shown if name in card},
        }


def _add_review(app: FastAPI, service: Service) -> None:
    @app.post("/api/reviews", response_model=answers.Review, status_code=201)
    async def claim_wrong(
        file: Annotated[UploadFile, File(description="The file whose verdict is wrong.")],
        claim: Annotated[Literal["real", "fake"], Form(description="What it is.")],
        verdict: Annotated[str, Form(max_length=200_000, description="The verdict, as JSON.")] = "{}",
        note: Annotated[str, Form(max_length=LONGEST_NOTE, description="How you know.")] = "",
    ) -> dict[str, Any]:
        """Keep a file and the claim that its verdict is wrong, for somebody to review."""
        review = service.review
        if review is None:
            raise HTTPException(403, "this service keeps no files")
        try:
            said = json.loads(verdict)
        except (ValueError, RecursionError):
            raise HTTPException(400, "verdict: not JSON") from None
        if not isinstance(said, dict):
            raise HTTPException(400, "verdict: not a JSON object")
        said.pop("heat_map", None)

        def keep() -> str:
            with _directory() as directory:
                path = _saved(file, directory)
                return review.add(path, claim, said, note, service.bounds.review_files).id

        try:
            return {"id": await asyncio.to_thread(keep)}
        except FullError:
            raise HTTPException(429, "the review set is full until somebody looks at it") from None


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", response_model=answers.Health)
    @app.get("/v2/health/live", response_model=answers.Health, include_in_schema=False)
    async def is_alive() -> dict[str, Any]:
        """Say that the process runs."""
        return {"status": "ok"}

    @app.get("/health/ready", response_model=answers.Health)
    @app.get("/v2/health/ready", response_model=answers.Health, include_in_schema=False)
    async def is_ready(response: Response) -> dict[str, Any]:
        """Say whether there is a detector to answer with; 503 where there is none."""
        if service.champion.served is None:
            response.status_code = 503
            return {"status": "waiting", "detail": redact(service.champion.error)}
        return {"status": "ok", "detail": redact(service.champion.error)}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the counts and durations in Prometheus's text format."""
        return Response(service.meters.text(), media_type="text/plain; version=0.0.4")


def _add_inference_protocol(app: FastAPI, service: Service) -> None:
    # The Open Inference Protocol (V2), which KServe speaks.
    def named(name: str) -> Served:
        if name != service.model_name:
            raise HTTPException(404, f"there is no model {name!r} here; ask {service.model_name!r}")
        return service.served()

    @app.get("/v2")
    async def describe_server() -> dict[str, Any]:
        """Describe the server."""
        return {"name": "ai-vs-real", "version": VERSION, "extensions": []}

    @app.get("/v2/models/{name}")
    async def describe_inputs(name: str) -> dict[str, Any]:
        """Describe the model's input and outputs."""
        served = named(name)
        return {
            "name": name,
            "versions": [served.version],
            "platform": "ai-vs-real",
            "inputs": [{"name": "media", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": "verdict", "datatype": "BYTES", "shape": [-1]},
                {"name": "probability", "datatype": "FP32", "shape": [-1]},
            ],
        }

    @app.get("/v2/models/{name}/ready", response_model=answers.Health)
    async def is_model_ready(name: str) -> dict[str, Any]:
        """Say whether the model answers."""
        named(name)
        return {"status": "ok"}

    @app.post("/v2/models/{name}/infer", response_model=answers.InferenceResponse)
    async def infer(name: str, request: Request, body: answers.InferenceRequest) -> dict[str, Any]:
        """Examine files given as base64 in an input of type BYTES."""
        served, (media,) = named(name), body.inputs
        if media.datatype != "BYTES" or media.shape != [len(media.data)] or not media.data:
            raise HTTPException(400, "give one input of datatype BYTES whose shape is the number of its values")
        verdicts = []
        for value in media.data:
            content = _decoded(value)

            def bring(directory: Path, content: bytes = content) -> Path:
                path = directory / "media"
                path.write_bytes(content)
                return path

            verdicts.append(await service.examine(request, bring))
        shape = [len(verdicts)]
        return {
            "id": body.id,
            "model_name": name,
            "model_version": served.version,
            "outputs": [
                {
                    "name": "verdict",
                    "shape": shape,
                    "datatype": "BYTES",
                    "data": [verdict["verdict"] for verdict in verdicts],
                },
                {
                    "name": "probability",
                    "shape": shape,
                    "datatype": "FP32",
                    "data": [verdict["probability"] for verdict in verdicts],
                },
            ],
        }


def _add_page(app: FastAPI) -> None:
    app.mount("/assets", StaticFiles(directory=PAGE), name="assets")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")


async def _hung_up(request: Request) -> None:
    # The body has been read, so what comes next is the end of the connection.
    while not await request.is_disconnected():
        await asyncio.sleep(0.25)


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ai-vs-real-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _saved(file: UploadFile, directory: Path) -> Path:
    # Under a name of our own: nothing of the caller's name is used.
    path = directory / "media"
    file.file.seek(0)
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target, 1024 * 1024)
    return path


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise HTTPException(400, "a value of a BYTES input is base64 text") from None
