"""The keys of ``tidemill.yaml`` as frozen models: names, types, ranges, defaults and what each one is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from tidemill.config._base import Duration, Float, Int, Section, Share, Text
from tidemill.config.annotation import AnnotationPolicy
from tidemill.config.bandit import Bandit
from tidemill.config.durations import parse_duration
from tidemill.config.mlflow import Mlflow
from tidemill.config.training import Training
from tidemill.config.transfer import Transfer
from tidemill.config.tuning import GoalText, Tuning

_ID = re.compile(r"[a-z][a-z0-9_+.-]+:(?![/\\])")  # at least two letters, so that C:\ is a path


def _data_spec(entry: Any) -> str:
    """``"train.csv"``, ``{"path": "train.csv"}`` or ``{"id": "sklearn:digits"}`` as one spec."""
    if isinstance(entry, str) and entry.strip():
        return entry
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((key, value),) = entry.items()
        if isinstance(value, str) and value.strip():
            if key == "path":
                return f"./{value}" if _ID.match(value) else value
            if key == "id" and _ID.match(value):
                return value
            if key == "id":
                raise PydanticCustomError("data", "is no id: write it like `sklearn:digits`, or use `path:`")
    raise PydanticCustomError("data", "must be `path: FILE-OR-FOLDER` or `id: sklearn:NAME`")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


def _cron(text: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        moment = next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)), None)
    except CronSimError:
        moment = None
    if moment is None or len(text.split()) != 5:
        raise PydanticCustomError(
            "cron", "must be five fields as cron writes them (minute, hour, day, month, weekday), such as 0 3 * * 1"
        )
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if text != "UTC":  # known also where no time zones are installed
            raise PydanticCustomError("zone", "must be a time zone such as UTC or Europe/Berlin") from error
    return text


def _url(text: str) -> str:
    if not re.match(r"[a-z0-9+]+://", text):
        raise PydanticCustomError("url", "must be a database URL such as sqlite:///FILE or postgresql://HOST/NAME")
    return text


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+", text):
        raise PydanticCustomError("origin", "must be an origin such as https://shop.example (no path)")
    return text


_DATA_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        *(
            {"type": "object", "properties": {k: {"type": "string"}}, "required": [k], "additionalProperties": False}
            for k in ("path", "id")
        ),
    ]
}
DataSpec = Annotated[str, BeforeValidator(_data_spec), WithJsonSchema(_DATA_SCHEMA)]


class Splits(Section):
    """Splits: which samples train, which choose among models, which judge."""

    policy: Literal["hash", "group", "time", "source"] = Field(
        default="hash",
        description="hash of the content; group or time by the column `key`; source: only the source's own split",
    )
    key: Text | None = Field(
        default=None, description="the column that keeps samples together (group) or orders them (time)"
    )
    validation: Annotated[Float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="share of the samples that models are chosen on"
    )
    reference: Annotated[Float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="share of the samples that judge, where the source brings no test set"
    )
    seed: Annotated[Int, Field(ge=0)] = Field(
        default=0, description="another seed, another split; fixed once samples are assigned"
    )


class Audit(Section):
    """Audit: the random share of live traffic whose labels are asked for, and judge."""

    rate: Share = Field(default=0.05, description="chance that a new piece of traffic is drawn")
    min_response: Share = Field(
        default=0.5, description="share of the draws that must be answered before they may judge"
    )


class Gate(Section):
    """Gate: when a challenger may replace the champion."""

    alpha: Annotated[Float, Field(gt=0, le=0.5)] = Field(
        default=0.05, description="chance of promoting a model that is not better, over the whole life of a test set"
    )
    margin: Share = Field(default=0.01, description="loss of quality that does not matter")
    slice_margin: Share = Field(default=0.03, description="loss that is tolerated in one slice")
    min_slice: Annotated[Int, Field(ge=1)] = Field(
        default=50, description="samples below which a slice is reported as not judged"
    )
    min_recent: Annotated[Int, Field(ge=1)] = Field(
        default=200,
        description="effective samples of audited traffic from which on it judges, instead of the reference set",
    )
    goal: Literal["quality", "latency", "size"] = Field(
        default="quality",
        description="what a challenger must be better at; with latency or size, quality must not be worse",
    )
    tests: Annotated[Int, Field(ge=1)] = Field(
        default=10, description="judgements that the alpha of one test set is planned for"
    )
    slices: tuple[Text, ...] | None = Field(
        default=None, description="columns whose values are slices; null: every category column"
    )


def _named_costs(value: Any) -> Any:
    """Labels may be numbers, in the file as in the data."""
    if not isinstance(value, Mapping):
        return value
    return {
        str(true): {str(answered): cost for answered, cost in row.items()} if isinstance(row, Mapping) else row
        for true, row in value.items()
    }


Cost = Annotated[Float, Field(ge=0)]


class DecisionRule(Section):
    """Decision: what wrong answers cost, and when a model should rather give none."""

    costs: Annotated[dict[Text, dict[Text, Cost]], BeforeValidator(_named_costs)] = Field(
        default={}, description="TRUE LABEL: {ANSWERED LABEL: cost}; what is not named costs 1, a right answer 0"
    )
    abstain_cost: Cost | None = Field(
        default=None, description="cost of giving no answer; the model abstains where every answer would cost more"
    )
    min_precision: Annotated[Float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of given answers that must be right; the model abstains where it is less sure"
    )
    level: Annotated[Float, Field(gt=0, lt=1)] = Field(
        default=0.9, description="share of true values that the interval of a predicted number is to cover"
    )


class RolloutPolicy(Section):
    """Rollout: how a challenger that the gate promoted comes to serve."""

    policy: Literal["direct", "shadow", "canary"] = Field(
        default="direct",
        description="direct: at once; shadow: its answers are first only logged, then it is a canary; canary: it "
        "answers a share of the callers",
    )
    shadow_rows: Annotated[Int, Field(ge=0)] = Field(
        default=1000, description="answers by both models after which the shadow becomes a canary"
    )
    shadow_for: Duration | None = Field(
        default=None, description="length of time that the shadow lasts at least, such as 1h"
    )
    share: Annotated[Float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of the callers whom the canary answers; each caller keeps the same model"
    )
    canary_rows: Annotated[Int, Field(ge=0)] = Field(
        default=100, description="answers that the canary must have given before it may be promoted"
    )
    margin: Share = Field(default=0.02, description="loss of live quality that does not keep it from being promoted")
    alpha: Annotated[Float, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="chance of promoting a worse one, and of rolling back one that is no worse"
    )
    min_callers: Annotated[Int, Field(ge=10)] = Field(
        default=30, description="callers with labelled answers below which nothing is concluded from them"
    )
    max_for: Duration = Field(default="7d", description="length of time after which it ends, whatever is known")
    undecided: Literal["rollback", "promote"] = Field(
        default="rollback", description="what then becomes of a challenger of whom nothing was proven"
    )
    max_faults: Annotated[Int, Field(ge=1)] = Field(
        default=3, description="batches that the challenger may fail at in one process before it is rolled back"
    )


class FeedbackPolicy(Section):
    """Feedback: whose word counts for how much, and how much of it may be learned at once."""

    trust: bool = Field(
        default=True, description="weigh authors by how well their words proved; false: one author, one vote"
    )
    start: Annotated[Float, Field(gt=0, lt=1)] = Field(
        default=0.7, description="chance that a new author's word is right, before anything is known of the author"
    )
    trusted: Annotated[Float, Field(gt=0.5, lt=1)] = Field(
        default=0.85, description="chance from which on an author is trusted, with 20 labels or more"
    )
    burst: Annotated[Int, Field(ge=2)] = Field(
        default=30, description="labels within an hour from which on they are judged on their own"
    )
    newcomers: Annotated[Float, Field(ge=0)] = Field(
        default=0.25,
        description="most that labels of authors who are not trusted yet weigh together, as a share of all other "
        "training samples; 100 labels in any case",
    )
    author: Annotated[Float, Field(ge=0)] = Field(
        default=1.0,
        description="most that labels weigh which one trusted author alone vouches for, likewise; 500 in any case",
    )


class CycleDefaults(Section):
    """Cycle: how much work one revolution may be, unless the command says otherwise."""

    budget: Duration | None = Field(default=None, description="length of training and tuning, such as 60s, 5m or 1h")
    max_trials: Annotated[Int, Field(ge=0)] | None = Field(
        default=None, description="most trials of one recipe's search (with max_epochs: the same result every time)"
    )
    max_epochs: Annotated[Int, Field(ge=1)] | None = Field(
        default=None, description="most passes over the training data"
    )
    seed: Annotated[Int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="the seed of everything random in training"
    )

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else parse_duration(self.budget)


class Triggers(Section):
    """Triggers: what starts a cycle while `tidemill up` runs."""

    after_labels: Annotated[Int, Field(ge=1)] | None = Field(
        default=100, description="new labels after which a cycle starts; null: they start none"
    )
    schedule: Annotated[Text, AfterValidator(_cron)] | None = Field(
        default=None, description="times at which a cycle starts whatever happened, as cron writes them: '0 3 * * 1'"
    )
    time_zone: Annotated[Text, AfterValidator(_zone)] = Field(
        default="UTC", description="where the schedule's times are meant, such as Europe/Berlin"
    )
    drift: Literal["cycle", "watch", "ignore"] = Field(
        default="watch",
        description="when traffic has moved away from the champion's data: start a cycle, or only show it; ignore: do "
        "not look",
    )
    drift_inputs: Annotated[Int, Field(ge=50)] = Field(
        default=200, description="new inputs from which on traffic is compared with the data"
    )
    quality: Annotated[Float, Field(gt=0)] | None = Field(
        default=None,
        description="floor of live quality, such as 0.9; for predicted numbers, most of the mean absolute error",
    )
    quality_labels: Annotated[Int, Field(ge=10)] = Field(
        default=50, description="audited labels from which on live quality may fall under the floor"
    )
    on_quality: Literal["cycle", "rollback"] = Field(
        default="cycle", description="under the floor: start a cycle, or put the deployment before this one back"
    )
    every: Duration = Field(default="10m", description="time between two looks at drift and live quality")
    rest: Duration = Field(default="6h", description="least time between two cycles for drift, or two for quality")


class Recipes(Section):
    """Recipes: which models are tried."""

    include: tuple[Text, ...] | None = Field(
        default=None, description="only these (baselines always run); null: all that the task offers"
    )
    exclude: tuple[Text, ...] = Field(default=(), description="never these")
    files: tuple[Text, ...] = Field(
        default=("recipes.py",), description="Python files with your own recipes, beside this file"
    )


Rate = Annotated[Float, Field(gt=0)]
ScopeName = Literal["predict", "feedback", "label", "admin"]
RATES: dict[ScopeName, Rate | None] = {"predict": 1000, "feedback": 500, "label": 50, "admin": 20}


def _rates(value: Any) -> Any:
    """What is not named keeps what it had."""
    return {**RATES, **value} if isinstance(value, Mapping) else value


class Serve(Section):
    """Serve: the HTTP service."""

    host: Text = Field(
        default="127.0.0.1", description="address to listen on; beyond this machine only once there is a token"
    )
    port: Annotated[Int, Field(ge=0, le=65535)] = Field(default=8321, description="port to listen on; 0: any free one")
    workers: Annotated[Int, Field(ge=1, le=256)] = Field(
        default=1, description="processes that answer, on one socket and one store; each counts rates for itself"
    )
    threads: Annotated[Int, Field(ge=1)] | None = Field(
        default=None, description="threads of one prediction; null: chosen by the machine"
    )
    max_body_mb: Annotated[Float, Field(gt=0)] = Field(default=16, description="largest request in MB")
    max_rows: Annotated[Int, Field(ge=1)] = Field(default=1000, description="most rows in one request")
    max_megapixels: Annotated[Float, Field(gt=0)] = Field(
        default=200, description="pixels of all images of one request together, in millions"
    )
    max_connections: Annotated[Int, Field(ge=1)] = Field(
        default=1000, description="most connections; idle ones make room for new ones"
    )
    latency_ms: Annotated[Float, Field(gt=0)] = Field(
        default=50, description="milliseconds that an answer should take at most; batches under load keep to it"
    )
    timeout_s: Annotated[Float, Field(gt=0)] = Field(
        default=10, description="seconds that an answer may take; what would take longer is refused at once"
    )
    keep_alive_s: Annotated[Int, Field(ge=1)] = Field(
        default=30, description="seconds that a connection may lie idle between two requests"
    )
    rate: Annotated[dict[ScopeName, Rate | None], BeforeValidator(_rates)] = Field(
        default=RATES, description="SCOPE: requests a second that one token may make; null: any number"
    )
    address_rate: Rate | None = Field(
        default=2000, description="requests a second from one address, whatever their tokens; null: any number"
    )
    open_loopback: bool = Field(
        default=False, description="let programs on this machine in without a token although there are tokens"
    )
    tls_certificate: Text | None = Field(
        default=None, description="PEM file with the certificate and its chain, for HTTPS; read at the start"
    )
    tls_key: Text | None = Field(default=None, description="PEM file with the certificate's private key")
    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(), description="web origins that may call from a browser, such as https://shop.example"
    )
    hosts: tuple[Text, ...] = Field(
        default=(), description="further names this service answers to, beside the loopback ones"
    )
    proxies: tuple[Text, ...] = Field(
        default=(), description="addresses of proxies in front, which are believed who the caller is"
    )
    tracing: bool | None = Field(
        default=None,
        description="send spans of requests and cycles by OpenTelemetry, as OTEL_… variables say; null: when they say "
        "where to",
    )
    console: bool = Field(default=True, description="pages for people beside the API, under /")
    log: Literal["text", "json"] | None = Field(
        default=None, description="a line a request on stderr, as text or as JSON; null: only warnings and errors"
    )


class Limits(Section):
    """Limits: what is too large to be read."""

    image_megapixels: Annotated[Float, Field(gt=0)] = Field(default=50, description="largest image")
    archive_gb: Annotated[Float, Field(gt=0)] = Field(default=8, description="largest unpacked archive in GB")
    archive_ratio: Annotated[Float, Field(gt=1)] = Field(
        default=200, description="largest unpacked size over packed size"
    )
    text_mb: Annotated[Float, Field(gt=0)] = Field(default=1, description="largest single text or field in MB")
    quota_gb: Annotated[Float, Field(gt=0)] = Field(default=20, description="disk that .tidemill may take in GB")

    @property
    def image_pixels(self) -> int:
        """Width times height that one image may have."""
        return int(self.image_megapixels * 1_000_000)


class Keep(Section):
    """Keep: what `tidemill gc` leaves."""

    predictions_days: Annotated[Int, Field(ge=1)] = Field(default=90, description="days that predictions stay")
    models: Annotated[Int, Field(ge=1)] = Field(
        default=10, description="newest models that stay, beside the champions and what they came from"
    )


class Config(Section):
    """A project's ``tidemill.yaml``.

    ``data`` holds one spec an entry: a path (relative to the file's folder) or an id such as ``sklearn:digits``.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema", description="version of this file's syntax")
    task: Text = Field(description="what is to be learned, such as image-classification")
    data: Annotated[tuple[DataSpec, ...], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        description="where the samples come from: `path:` a file or folder, or `id:` a named set"
    )
    target: Text = Field(description="the column to predict")
    labels: tuple[Text, ...] = Field(default=(), description="labels that the data does not show yet")
    inputs: tuple[Text, ...] | None = Field(default=None, description="the columns to learn from; null: all others")
    ignore: tuple[Text, ...] = Field(default=(), description="columns to leave out")
    weight: Text | None = Field(default=None, description="the column that says how much each sample counts")
    tasks: tuple[Text, ...] = Field(default=(), description="Python files with your own tasks, beside this file")
    store: Annotated[Text, AfterValidator(_url)] | None = Field(
        default=None,
        description="where the tables are kept, such as postgresql://USER@HOST/NAME; null: SQLite in .tidemill",
    )
    goal: GoalText = Field(
        default="best",
        description="which candidate goes to the gate: the best one, or the best one under 5 ms, under 2 MB, or both",
    )
    splits: Splits = Splits()
    audit: Audit = Audit()
    gate: Gate = Gate()
    bandit: Bandit = Bandit()
    decision: DecisionRule = DecisionRule()
    rollout: RolloutPolicy = RolloutPolicy()
    feedback: FeedbackPolicy = FeedbackPolicy()
    annotation: AnnotationPolicy = AnnotationPolicy()
    cycle: CycleDefaults = CycleDefaults()
    tuning: Tuning = Tuning()
    training: Training = Training()
    triggers: Triggers = Triggers()
    recipes: Recipes = Recipes()
    serve: Serve = Serve()
    limits: Limits = Limits()
    keep: Keep = Keep()
    mlflow: Mlflow = Mlflow()
    transfer: Transfer = Transfer()

    def sources(self, project_dir: str | Path) -> list[str]:
        """The specs with every relative path made absolute against *project_dir*; ids stay as they are.

        >>> Config(task="t", target="y", data=("sklearn:digits", "a.csv")).sources("/p")
        ['sklearn:digits', '/p/a.csv']
        """
        return [s if is_id(s) else str(Path(project_dir, Path(s).expanduser())) for s in self.data]


def is_id(spec: str) -> bool:
    """Whether a data spec is an id such as ``sklearn:digits``, not a path."""
    return _ID.match(spec) is not None
