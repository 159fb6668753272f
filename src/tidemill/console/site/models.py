"""Models: which are worth having, what they did, two beside one another; and what shall serve, with the reason why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import HTMLResponse, Response

from tidemill.console.page import named
from tidemill.console.report import curve_names, report_page
from tidemill.console.site import pictures
from tidemill.console.site.pictures import Point
from tidemill.console.site.rendering import words
from tidemill.console.site.visit import Place, Visit
from tidemill.errors import InputError
from tidemill.project import data_page, housekeeping, overview, rollouts
from tidemill.project.rollouts import Phase
from tidemill.records import JSON, Decision, Deployment, Model, Report, Run, to_json
from tidemill.store import running_rollout, standing
from tidemill.store.glances import page as page_of
from tidemill.tasks import metric_of

SHOWN, DRAWN = 30, 60
"""Models on one page, and in the picture."""
RUNS = 50
SPLITS = ("validation", "reference", "recent-test")
_ERRORS = ("mae", "mse", "rmse", "log_loss", "label_log_loss", "brier", "expected_cost", "hamming_loss", "pinball_loss")
"""Of which less is better."""
_KEPT = 5000


def models(visit: Visit) -> Response:
    """The picture of the newest, and a list of all."""
    store, before = visit.store, visit.number("before")
    seen = standing(store)  # before all that is shown, so that nobody decides by less than they say they saw
    found = page_of(store, Model, limit=SHOWN + 1, before=before)
    deployment, rollout = store.champion(), running_rollout(store)
    metric = metric_of(visit.project.task, visit.project.config.decision)
    champion = None if deployment is None else deployment.model_id
    drawn = [model for _, model in page_of(store, Model, limit=DRAWN)] if before is None else []
    if champion is not None and before is None and champion not in {m.id for m in drawn}:
        drawn.append(store.get(Model, champion))
    shown = [model for _, model in found[:SHOWN]]
    facts = _facts(visit, [*shown, *drawn])
    roles = {champion: "champion", rollout.challenger_id if rollout else None: "challenger"}
    return visit.page(
        "models.html",
        models=[{**to_json(m), **facts[m.id], "role": roles.get(m.id)} for m in shown],
        picture=_picture(drawn, facts, roles, metric, visit),
        metric=metric,
        champion=champion,
        rollout=None if rollout is None else to_json(rollout),
        last_rollouts=rollouts.listed(visit.project)[:5],
        history=[to_json(d) for _, d in page_of(store, Deployment, limit=8)],
        seen=seen,
        first=before is None,
        older=found[SHOWN - 1][0] if len(found) > SHOWN else None,
    )


def _facts(visit: Visit, wanted: Sequence[Model]) -> dict[str, JSON]:
    """By model, what its reports say of quality and latency: ``{"quality": {SPLIT: …}, "latency", "metric"}``.

    Reports never change, but a model gets more of them; they are read once, and the newest of a model tells.
    """
    known: dict[tuple[str, str], JSON] = visit.site.facts
    ids = visit.store.ids(Report, model_id=[m.id for m in wanted]) if wanted else []
    missing = [i for i in ids if i not in visit.site.read]
    for report in visit.store.find(Report, id=missing) if missing else []:
        content = report.content
        single = (content.get("latency") or {}).get("single") or {}
        metrics = content.get("metrics") or {}
        name = str(content.get("metric") or next(iter(metrics), ""))
        known[report.model_id, report.split] = {
            "metric": name,
            "latency": single.get("p50_ms"),
            **metrics.get(name, {}),
        }
        visit.site.read.add(report.id)
    if len(known) > _KEPT:
        known.clear()
        visit.site.read.clear()
    found = {}
    for model in wanted:
        told = {split: known[model.id, split] for split in SPLITS if (model.id, split) in known}
        latency = next((t["latency"] for t in told.values() if t.get("latency") is not None), None)
        found[model.id] = {"told": told, "latency": latency}
    return found


def _picture(
    drawn: Sequence[Model], facts: dict[str, JSON], roles: dict[str | None, str], metric: str, visit: Visit
) -> Any:
    points = []
    for model in drawn:
        told: JSON = facts[model.id]["told"].get("validation") or next(iter(facts[model.id]["told"].values()), {})
        value, latency = told.get("value"), facts[model.id]["latency"]
        if value is None or latency is None:
            continue
        name = told["metric"]
        said = f"{model.recipe}: {name} {value:.4g}, {latency:.3g} ms, {model.size_bytes / 1e6:.3g} MB"
        quality = -value if name in _ERRORS else value
        role = roles.get(model.id, "")
        points.append(Point(model.recipe, f"/models/{model.id}", quality, latency, model.size_bytes, role, said))
        metric = name
    language = visit.look.language
    label = words(language, "Quality against latency")
    sign = "− " if metric in _ERRORS else ""
    return pictures.pareto(points, ("ms", f"{sign}{words(language, named(metric))}"), label)


def model(visit: Visit) -> Response:
    """One model: what it did, how it learned, what was decided; and what can be done with it."""
    store = visit.store
    seen = standing(store)  # before all that is shown
    found = overview.report(visit.project, visit.path("id"))
    identifier = found["model"]["id"]
    deployment, rollout = store.champion(), running_rollout(store)
    run: JSON | None = found["run"]
    curve = (run or {}).get("curve") or []
    return visit.page(
        "model.html",
        **{name: found[name] for name in ("model", "run", "reports", "decision", "answer")},
        curve=curve,
        curves=[(kind, curve_names(curve, kind)) for kind in ("loss", "score") if curve_names(curve, kind)],
        serves=deployment is not None and deployment.model_id == identifier,
        anything=deployment is not None,
        rollout=to_json(rollout) if rollout is not None else None,
        deployments=[to_json(d) for d in store.find(Deployment, model_id=identifier)],
        seen=seen,
        kept=(store.root / found["model"]["path"]).is_dir(),
    )


def report(visit: Visit) -> Response:
    """The report that ``tidemill report`` writes."""
    found = overview.report(visit.project, visit.path("id"))
    data = data_page.data_of_report(visit.project, found["model"]["dataset_id"])
    return HTMLResponse(report_page(found, data, served=True))


def compare(visit: Visit) -> Response:
    """Two models beside one another."""
    ids = [value for name in ("a", "b", "of") for value in visit.request.query_params.getlist(name) if value][:3]
    if len(ids) != 2:
        raise InputError("two models are compared", where="models", mend="Tick two of the list.")
    sides = [overview.report(visit.project, identifier) for identifier in ids]
    decisions = [
        to_json(d)
        for d in visit.store.find(Decision, challenger_id=ids)
        if {d.challenger_id, d.champion_id} == set(ids)
    ]
    rows = []
    for split in SPLITS:
        both = [side["reports"].get(split) for side in sides]
        names = list(dict.fromkeys(name for one in both if one for name in one["metrics"]))
        for name in names:
            values = [one["metrics"].get(name) if one else None for one in both]
            rows.append({"split": split, "metric": name, "values": values, "better": _better(name, values)})
    curves = [side["run"]["curve"] if side["run"] else [] for side in sides]
    return visit.page("compare.html", sides=sides, rows=rows, curves=curves, names=curve_names, decisions=decisions)


def _better(metric: str, values: Sequence[JSON | None]) -> int | None:
    """Which of two values is better by more than both intervals leave open; ``None`` where that cannot be said."""
    first, second = values
    if first is None or second is None or first.get("low") is None or second.get("low") is None:
        return None
    if first["low"] > second["high"]:
        return 1 if metric in _ERRORS else 0
    if second["low"] > first["high"]:
        return 0 if metric in _ERRORS else 1
    return None


def runs(visit: Visit) -> Response:
    """Everything that was trained, the newest first."""
    before, status = visit.number("before"), visit.asked("status")
    chosen: dict[str, Any] = {} if status is None else {"status": status}
    found = page_of(visit.store, Run, limit=RUNS + 1, before=before, **chosen)
    shown = [{**to_json(run), "recipe": run.recipe.get("name"), "curve": len(run.curve)} for _, run in found[:RUNS]]
    older = found[RUNS - 1][0] if len(found) > RUNS else None
    return visit.page("runs.html", runs=shown, older=older, first=before is None, state=status)


def promote(visit: Visit) -> Response:
    """Put a model into force by hand."""
    reason = visit.reason()
    housekeeping.promote(visit.project, visit.path("id"), reason=reason, author=visit.author, seen=visit.seen)
    return visit.go(f"/models/{visit.path('id')}", said="promoted")


def begin_rollout(visit: Visit) -> Response:
    """Let a model begin in the shadow, or as a canary."""
    reason = visit.reason()
    phase = visit.given("phase")
    if phase not in ("shadow", "canary"):
        raise InputError(f"there is no phase {phase!r:.40}", where="phase", mend="Choose shadow or canary.")
    chosen: Phase = "shadow" if phase == "shadow" else "canary"
    rollouts.start(
        visit.project,
        visit.path("id"),
        phase=chosen,
        share=_share(visit),
        reason=reason,
        author=visit.author,
        seen=visit.seen,
    )
    return visit.go(f"/models/{visit.path('id')}", said=phase)


def advance(visit: Visit) -> Response:
    """Make a canary of the challenger in the shadow, or give it another share of the callers."""
    rollouts.advance(visit.project, share=_share(visit), reason=visit.reason(), author=visit.author, seen=visit.seen)
    return visit.go("/models", said="advanced")


def end_rollout(visit: Visit) -> Response:
    """End the roll-out; the champion goes on alone."""
    rollouts.stop(visit.project, reason=visit.reason(), author=visit.author, seen=visit.seen)
    return visit.go("/models", said="ended")


def rollback(visit: Visit) -> Response:
    """Put the model before the champion back."""
    reason = visit.reason()
    housekeeping.rollback(visit.project, reason=reason, author=visit.author, seen=visit.seen)
    return visit.go("/models", said="rolled-back")


def _share(visit: Visit) -> float | None:
    """The share of the callers that was typed, in percent.

    Raises:
        InputError: it is none.
    """
    text = visit.given("share")
    if text is None:
        return None
    try:
        share = float(text) / 100
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise InputError(f"{text!r:.40} is no share", where="share", mend="Give percent, more than 0 and at most 100.")
    return share


PLACES = (
    Place("/models", models, "predict"),
    Place("/models/compare", compare, "predict"),
    Place("/models/runs", runs, "predict"),
    Place("/models/rollback", rollback, "admin", "POST"),
    Place("/models/rollout/advance", advance, "admin", "POST"),
    Place("/models/rollout/end", end_rollout, "admin", "POST"),
    Place("/models/{id}", model, "predict"),
    Place("/models/{id}/report", report, "label"),
    Place("/models/{id}/promote", promote, "admin", "POST"),
    Place("/models/{id}/rollout", begin_rollout, "admin", "POST"),
)
