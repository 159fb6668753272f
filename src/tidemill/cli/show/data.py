"""A dataset version for the terminal: what stands out, labels, columns, doubtful labels, drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.show import layout, units
from tidemill.cli.show.answers import label as stated

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_COLUMNS, _LABELS, _DOUBTS = 40, 20, 8  # lines of one table
_ORDER = ("train", "reference", "recent-test", "validation", "recent-validation")


def page(data: dict[str, Any]) -> RenderableType:
    """What :meth:`tidemill.api.Project.data` returns."""
    profile, against = data["profile"], data["against"]
    splits = [name for name in _ORDER if name in profile["splits"]]
    comparisons = [c for c in (*data["drift"]["splits"], data["drift"]["versions"]) if c is not None]
    return layout.stack(
        layout.pairs(
            {
                "version": f"{data['version']['id']}, made {units.ago(data['version']['created'])}",
                "target": f"{data['target']} ({data['kind']})",
                **({} if against is None else {"against": f"{against['id']}, made {units.ago(against['created'])}"}),
            }
        ),
        _found(data),
        _labels(profile, splits),
        _columns(data, splits),
        _doubts(data["label_errors"]),
        *(_drift(comparison) for comparison in comparisons),
        layout.following(["tidemill data --open     draws it"]),
    )


def _found(data: Mapping[str, Any]) -> RenderableType:
    lines = [f"• {finding['text']}" for finding in data["findings"]]
    unknown = data["label_errors"].get("unknown")
    if unknown is not None:
        lines.append(f"• doubtful labels: {unknown}")
    return layout.line("\n".join(lines or ["nothing stands out"]))


def _labels(profile: Mapping[str, Any], splits: list[str]) -> Table:
    """Rows by label, or what the numbers are like, split by split."""
    sizes, balance = profile["splits"], profile["balance"]
    rows: list[tuple[str, ...]] = [("rows", *(units.count(sizes[name]["rows"]) for name in splits))]
    if any(size["labelled"] < size["rows"] for size in sizes.values()):
        rows.append(("with a label", *(units.count(sizes[name]["labelled"]) for name in splits)))
    if profile["kind"] == "regression":
        for what, key in (("mean", "mean"), ("smallest", "min"), ("largest", "max")):
            rows.append((what, *(units.number(balance[name]["numbers"][key]) for name in splits)))
        return layout.table(["", *(f">{name}" for name in splits)], rows)
    total = {code: sum(balance[name]["counts"][code] for name in splits) for code in range(len(profile["labels"]))}
    order = list(total) if len(total) <= _LABELS else sorted(total, key=lambda code: -total[code])[:_LABELS]
    for code in order:
        counts = ((balance[name]["counts"][code], max(sizes[name]["labelled"], 1)) for name in splits)
        shown = (f"{units.count(count)} ({units.percent(count / rows_of)})" for count, rows_of in counts)
        rows.append((profile["labels"][code], *shown))
    if len(total) > _LABELS:
        rows.append((f"and {len(total) - _LABELS} more labels",))
    return layout.table(["", *(f">{name}" for name in splits)], rows)


def _columns(data: Mapping[str, Any], splits: list[str]) -> Table | None:
    moved: dict[str, str] = {}
    for comparison in data["drift"]["splits"][:1]:
        moved = {line["column"]: line["effect"] for line in comparison["columns"] if line["type"] != "label"}
    columns = data["profile"]["columns"]
    if not splits:
        return None
    missing = {line["column"]: line["share"] for line in data["missing"]}
    return layout.table(
        ["column", "type", ">missing", "values in train" if splits[0] == "train" else "values", "drift to test"],
        [
            (
                column["name"],
                column["type"],
                units.percent(missing.get(column["name"], 0.0)),
                _values(column["type"], column["splits"][splits[0]]),
                {"none": "", "tiny": ""}.get(effect := moved.get(column["name"], ""), effect),
            )
            for column in columns[:_COLUMNS]
        ],
        title=None if len(columns) <= _COLUMNS else f"the first {_COLUMNS} of {len(columns)} columns",
    )


def _values(kind: str, found: Mapping[str, Any]) -> str:
    """What a column's values are like, in a few words."""
    if not found["rows"]:
        return units.NONE
    if kind == "image":
        height, width, channels = found["shape"]
        return f"{width} × {height} × {channels}, brightness {found['brightness']['mean']:.2f}"
    if kind == "text":
        return units.NONE if found["words"]["mean"] is None else f"{found['words']['mean']:.0f} words on average"
    if kind == "category":
        known = max(found["rows"] - found["missing"], 1)
        top = ", ".join(f"{value[:24]} {units.percent(count / known, 0)}" for value, count in found["top"][:2])
        return f"{units.count(found['distinct'])} distinct: {top}" if top else units.NONE
    if found["mean"] is None:
        return units.NONE
    if kind == "date":
        return f"{_day(found['min'])} to {_day(found['max'])}"
    return f"{found['min']:.6g} to {found['max']:.6g}, median {found['quantiles']['0.5']:.6g}"


def _day(seconds: float) -> str:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):  # before the year 1 or after 9999
        return f"{seconds:.3g} s"


def _doubts(found: Mapping[str, Any]) -> Table | None:
    issues = found.get("issues") or []
    if not issues:
        return None
    of = f", {_DOUBTS} of {units.count(found['suspected'])}" if found["suspected"] > _DOUBTS else ""
    return layout.table(
        ["sample", "from", "says", "rather", ">belief"],
        [
            (i["sample"], i["origin"], stated(i["label"]), stated(i["suggestion"]), _belief(i["quality"]))
            for i in issues[:_DOUBTS]
        ],
        title=f"least believable labels{of}",
    )


def _belief(quality: float) -> str:
    return f"{quality:.3f}" if quality >= 0.001 else "< 0.001"


def _drift(comparison: Mapping[str, Any]) -> Table | None:
    lines = [line for line in comparison["columns"] if line["moved"]]
    if not lines:
        return None
    return layout.table(
        ["drift", ">size", "how"],
        [(line["effect"], f"{line['size']:.2g}", line["sentence"]) for line in lines[:_COLUMNS]],
        title=f"from {comparison['before']} to {comparison['after']}",
    )
