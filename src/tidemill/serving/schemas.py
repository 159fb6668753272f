"""The shapes of requests and answers of every kind of task.

:mod:`tidemill.serving.describing` narrows them to the project's own fields and labels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from tidemill.runtime.statements import MAX_COMMENT, MAX_MEMBERS, MAX_NAME, NAME

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=NAME)]


class Strict(BaseModel):
    """A body in which no other field may stand."""

    model_config = ConfigDict(extra="forbid")


class Inputs(RootModel[dict[str, Any]]):
    """One row of inputs, by field."""


class PredictBody(Strict):
    """What ``POST /v1/predict`` takes."""

    inputs: Inputs | Annotated[list[Inputs], Field(min_length=1)] = Field(description="one row, or several")
    key: Name | None = Field(default=None, description="your own split key for all rows, such as a user's id")
    caller: Name | None = Field(default=None, description="who asks")


class Answered(BaseModel):
    """What every answer has."""

    id: str = Field(description="give it back with your feedback")
    audit: bool = Field(description="drawn for the audit: please ask someone for the right answer")


class Classified(Answered):
    """One answer: the label that costs least, which is the likeliest unless the project says what errors cost."""

    label: str
    score: float = Field(description="the label's probability")
    scores: dict[str, float] = Field(description="the probability of each label; they sum to 1")


class Abstained(Answered):
    """No answer, since none is sure enough; what would have been said stands in `guess`."""

    label: None
    abstained: Literal[True]
    guess: str
    score: float = Field(description="the guess's probability")
    scores: dict[str, float] = Field(description="the probability of each label; they sum to 1")


class Labelled(Answered):
    """One answer: every label that reaches its threshold, perhaps none."""

    labels: list[str]
    scores: dict[str, float] = Field(description="the probability of each label, by itself")


class Estimated(Answered):
    """One answer: a number, and where the project asks for it the interval that covers so many of the true ones."""

    value: float
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="from low to high"
    )
    level: float | None = Field(default=None, description="share of true values that such intervals cover")


class Chosen(Answered):
    """One answer: an action, drawn by the policy, and how likely each that was offered was to be drawn."""

    action: str
    propensity: Annotated[float, Field(gt=0, le=1)] = Field(description="the probability with which it was drawn")
    propensities: dict[str, float] = Field(description="that of every action that was offered; they sum to 1")
    expected: dict[str, float] = Field(description="the reward that each was expected to bring")


class Predictions(BaseModel):
    """What ``POST /v1/predict`` answers, in the order of the inputs."""

    model: str
    deployment: str
    predictions: list[Classified | Abstained] | list[Labelled] | list[Estimated] | list[Chosen]


class Statement(Strict):
    """What every statement of feedback has."""

    prediction: str = Field(description="the id that /v1/predict answered")
    author: Name | None = Field(default=None, description="who says it; anonymous unless given")
    asked: bool = Field(default=False, description="it answers an audit request, so it may judge models")
    key: Name | None = Field(default=None, description="idempotency key; also as header Idempotency-Key")


class Confirmation(Statement):
    """The answer was right."""

    kind: Literal["confirmation"]
    value: None = None


class Correction(Statement):
    """The answer was wrong, and this is right."""

    kind: Literal["correction"]
    value: str | int | float | bool | list[str | int | float | bool] = Field(
        description="the right label, the list of all right labels ([] for none), or the right number"
    )


class Rating(Statement):
    """How good the answer was, or what came of it, as a number."""

    kind: Literal["rating", "reward"]
    value: float = Field(allow_inf_nan=False)


class Comment(Statement):
    """Free text."""

    kind: Literal["comment"]
    value: str = Field(min_length=1, max_length=MAX_COMMENT)


class Over(Strict):
    """The prediction that was liked less."""

    over: str


class Preference(Statement):
    """The answer was better than another one."""

    kind: Literal["preference"]
    value: Over


class EpisodeStatement(Strict):
    """What every statement about an episode has."""

    episode: Name = Field(description="any name of yours: of a game, a visit, a conversation")
    predictions: Annotated[list[str], Field(max_length=MAX_MEMBERS)] | None = Field(
        default=None, description="ids of predictions that belong to it; other statements may name more"
    )
    author: Name | None = Field(default=None, description="who says it; anonymous unless given")
    asked: Literal[False] = Field(default=False, description="nobody asks about episodes")
    key: Name | None = Field(default=None, description="idempotency key; also as header Idempotency-Key")


class EpisodeRating(EpisodeStatement):
    """How good the episode was, or what came of it, as a number."""

    kind: Literal["rating", "reward"]
    value: float = Field(allow_inf_nan=False)


class EpisodeComment(EpisodeStatement):
    """Free text about the episode."""

    kind: Literal["comment"]
    value: str = Field(min_length=1, max_length=MAX_COMMENT)


OfPrediction = Annotated[Confirmation | Correction | Rating | Comment | Preference, Field(discriminator="kind")]
OfEpisode = Annotated[EpisodeRating | EpisodeComment, Field(discriminator="kind")]
AnyStatement = OfPrediction | OfEpisode


class Statements(Strict):
    """Several statements at once."""

    feedback: list[AnyStatement] = Field(min_length=1)


class FeedbackBody(RootModel[AnyStatement | Statements]):
    """What ``POST /v1/feedback`` takes: one statement, or a list."""


class Accepted(BaseModel):
    """What became of one statement."""

    feedback: str = Field(description="its id; for a repeated key the id of the first")
    status: Literal["accepted", "repeated", "conflict"]
    superseded: str | None = Field(description="the older statement of the same author that it takes the place of")


class AcceptedList(BaseModel):
    """What became of each statement of a list, in its order."""

    feedback: list[Accepted]


class FeedbackAnswer(RootModel[Accepted | AcceptedList]):
    """What ``POST /v1/feedback`` answers."""


class ErrorBody(BaseModel):
    """What is wrong, where, and how to mend it."""

    code: str = Field(description="a stable name for programs")
    what: str
    where: str | None
    mend: str | None


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    error: ErrorBody


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """A model is loaded."""

    status: Literal["ready"]
    model: str
    deployment: str
    detail: str | None = Field(description="why a newer model could not be taken up, if so")


class ListedModel(BaseModel):
    """One model; further fields tell its recipe, metrics and size."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"]
    created: int = Field(description="UTC seconds")
    owned_by: Literal["tidemill"]
    champion: bool = Field(description="it is the one that answers")


class ModelList(BaseModel):
    """The shape of OpenAI's list of models."""

    object: Literal["list"]
    data: list[ListedModel]


class ProtocolError(BaseModel):
    """Every error of the Open Inference Protocol has this shape."""

    error: str = Field(description="where it is wrong, what, and how to mend it")


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class LiveServer(BaseModel):
    """The process is alive."""

    live: bool


class ReadyServer(BaseModel):
    """A model is loaded."""

    ready: bool


class ReadyModel(ReadyServer):
    """The model answers."""

    name: str


class TensorMetadata(BaseModel):
    """An input or an output."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 where any number will do: the first side is the number of rows")
    parameters: dict[str, Any] | None = Field(
        default=None, description="of an input its type, and whether it is optional; of an output its labels"
    )


class ModelMetadata(BaseModel):
    """What the model takes and gives."""

    name: str
    versions: list[str] = Field(description="the id of the model that answers")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]


class InputTensor(BaseModel):
    """One input, of all rows."""

    name: str
    datatype: Datatype
    shape: list[Annotated[int, Field(ge=1, lt=2**31)]] = Field(
        min_length=1, max_length=8, description="the number of rows, then the sides of each"
    )
    data: list[Any] | None = Field(default=None, description="flat, or nested by shape")
    parameters: dict[str, Any] | None = Field(
        default=None, description="`binary_data_size`: its bytes behind the JSON, in place of `data`"
    )


class WantedOutput(BaseModel):
    """An output that the answer is to have."""

    name: str
    parameters: dict[str, Any] | None = Field(default=None, description="`binary_data`: as bytes behind the JSON")


class InferBody(BaseModel):
    """What an inference takes."""

    id: Annotated[str, Field(max_length=MAX_NAME)] | None = Field(default=None, description="given back")
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[WantedOutput] | None = Field(default=None, description="all unless given")
    parameters: dict[str, Any] | None = Field(
        default=None, description="`key` and `caller` as in /v1/predict; `binary_data_output`: outputs as bytes"
    )


class OutputTensor(BaseModel):
    """One output, of all rows."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any] | None = Field(default=None, description="flat")
    parameters: dict[str, Any] | None = Field(default=None, description="`binary_data_size` where it follows the JSON")


class InferAnswer(BaseModel):
    """What an inference answers."""

    model_name: str
    model_version: str = Field(description="the id of the model that answered")
    id: str | None = None
    parameters: dict[str, str] = Field(description="`predictions`: the ids to give feedback on, with commas between")
    outputs: list[OutputTensor]
