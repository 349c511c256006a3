"""What the API says, as typed models; the OpenAPI document is made of them.

Fields of a verdict are those of `components.prediction`; see there for what they mean.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Answer = Literal["real", "fake", "unsure"]


class Familiarity(BaseModel):
    """How much a file resembles the media that the detector was trained on."""

    score: float = Field(description="Share of familiar validation media that are less familiar than this file.")
    threshold: float = Field(description="Below it the verdict is unsure.")
    familiar: bool
    nearest: str = Field(default="", description="The training source that it resembles most.")


class Delivery(BaseModel):
    """The answer for the same file after a step that media take on their way."""

    name: str
    words: str
    probability: float = Field(ge=0, le=1)
    verdict: Answer


class Moment(BaseModel):
    """One frame of a video."""

    time_s: float = Field(ge=0)
    probability: float = Field(ge=0, le=1)


class Segment(BaseModel):
    """A suspicious part of a video."""

    start_s: float
    end_s: float
    probability: float = Field(ge=0, le=1)


class Verdict(BaseModel):
    """The answer for one file."""

    model_config = ConfigDict(extra="allow")

    verdict: Answer
    reason: str = Field(description="Why the verdict is unsure; empty otherwise.")
    probability: float = Field(ge=0, le=1, description="Calibrated probability that the file is AI-generated.")
    kind: Literal["picture", "clip"]
    frames: int = Field(ge=1, description="Frames that were looked at.")
    band: dict[str, float] = Field(description="Between low and high the verdict is unsure.")
    familiarity: Familiarity | None = None
    deliveries: list[Delivery] = []
    timeline: list[Moment] = []
    segments: list[Segment] = []
    provenance: dict[str, Any] = Field(default={}, description="What the file says of itself; not part of the score.")
    nearest: list[dict[str, Any]] = Field(default=[], description="Training media that look like this file.")
    receipt: dict[str, Any] = Field(default={}, description="What made this answer.")
    limits: list[str] = Field(default=[], description="What the detector must not be used for.")
    heat_map: str | None = Field(default=None, description="A PNG as a data URI, where an explanation was asked for.")
    heat_map_time_s: float | None = None


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str


class Link(BaseModel):
    """A file to be fetched and examined."""

    link: str = Field(min_length=1, max_length=2000, description="An http or https address.")
    explain: bool = Field(default=False, description="Whether a heat map is wanted.")
    delivery_test: bool = Field(default=True, description="Whether the delivery test is wanted.")


class Model(BaseModel):
    """The detector that answers."""

    name: str
    version: str
    digest: str
    largest_bytes: int = Field(description="Of an upload; a larger one is refused.")
    loaded_at: str
    package: str
    note: str = ""
    limits: list[str] = []
    card: dict[str, Any] = {}


class Review(BaseModel):
    """A file that was kept for review."""

    id: str


class Health(BaseModel):
    """Whether the service can answer."""

    status: Literal["ok", "waiting"]
    detail: str = ""


class Tensor(BaseModel):
    """A named input or output of the Open Inference Protocol, version 2."""

    name: str = Field(max_length=100)
    shape: list[int] = Field(max_length=4)
    datatype: str = Field(max_length=10)
    data: list[Any] = Field(max_length=64)


class InferenceRequest(BaseModel):
    """Files to be examined: one input of type BYTES, base64, or FP32 results of it are wanted by name."""

    id: str = Field(default="", max_length=200)
    inputs: list[Tensor] = Field(min_length=1, max_length=1)


class InferenceResponse(BaseModel):
    """The answers: `verdict` (BYTES) and `probability` (FP32), one for each file."""

    id: str = ""
    model_name: str
    model_version: str
    outputs: list[Tensor]
