"""What the data page draws of a profile: which splits, which values, which figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.console.charts import moment, short

COLUMNS = 60
"""Columns that are drawn; of more, those that moved most."""
BARS = 8
"""Values of a category that have a bar."""
LABELS = 40
"""Labels that have a bar."""
_ORDER = ("train", "reference", "recent-test", "validation", "recent-validation")


def pair(profile: Mapping[str, Any]) -> list[str]:
    """The splits that are drawn beside one another: training and test, or the first that there are.

    >>> pair({"splits": {"train": {}, "validation": {}, "reference": {}}})
    ['train', 'reference']
    """
    return [name for name in _ORDER if name in profile["splits"]][:2]


def drawn(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns to draw, each with what is known of its drift between training and test under ``drift``."""
    lines = {
        line["column"]: line for c in page["drift"]["splits"][:1] for line in c["columns"] if line["type"] != "label"
    }
    columns = [{**column, "drift": lines.get(column["name"])} for column in page["profile"]["columns"]]
    if len(columns) > COLUMNS:
        columns.sort(key=lambda column: -(column["drift"] or {"size": 0.0})["size"])
    return columns[:COLUMNS]


def labels(profile: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows by label, ``{"name", "counts": {SPLIT: rows}, "shares": {SPLIT: share of the labelled rows}}``.

    Of more than :data:`LABELS` labels the most frequent ones.
    """
    balance, splits = profile["balance"], profile["splits"]
    totals = {name: max(splits[name]["labelled"], 1) for name in balance}
    found = []
    for code, label in enumerate(profile["labels"]):
        counts = {name: side["counts"][code] for name, side in balance.items()}
        shares = {name: count / totals[name] for name, count in counts.items()}
        found.append({"name": label, "counts": counts, "shares": shares})
    if len(found) > LABELS:
        found.sort(key=lambda line: -sum(line["counts"].values()))
    return found[:LABELS]


def values(column: Mapping[str, Any], splits: list[str]) -> list[dict[str, Any]]:
    """The most frequent values of a category, as :func:`labels` gives labels; the first split says which."""
    described = {name: column["splits"][name] for name in splits}
    tops = {name: dict(side["top"]) for name, side in described.items()}
    known = {name: max(side["rows"] - side["missing"], 1) for name, side in described.items()}
    first: list[tuple[str, int]] = next((side["top"] for side in described.values() if side["top"]), [])
    return [
        {"name": value, "shares": {name: tops[name].get(value, 0) / known[name] for name in splits}}
        for value, _ in first[:BARS]
    ]


def figures(column: Mapping[str, Any], split: str) -> list[tuple[str, str]]:
    """A column's figures in one split, as name and text."""
    found = column["splits"].get(split)
    if found is None or not found["rows"]:
        return []
    kind = column["type"]
    if kind == "image":
        height, width, channels = found["shape"]
        size = (
            f"{width} × {height}, {'grey' if channels == 1 else 'colour' if channels == 3 else f'{channels} channels'}"
        )
        return [("size", size), *_middle("brightness", found["brightness"]), *_middle("contrast", found["contrast"])]
    missing = [("missing", f"{100 * found['missing'] / found['rows']:.3g} %")] if found["missing"] else []
    if kind == "text":
        written = ", ".join(f"{name} {100 * part:.0f} %" for name, part in list(found["scripts"].items())[:3])
        return [("words", _quarters(found["words"])), ("characters", _quarters(found["characters"])),
                ("scripts", written or "–"), *missing]  # fmt: skip
    if kind == "category":
        return [("values", f"{found['distinct']:,}"), *missing]
    write = moment if kind == "date" else short
    if found["mean"] is None:
        return missing
    reach = f"{write(found['min'])} to {write(found['max'])}"
    return [("median", write(found["quantiles"]["0.5"])), ("mean", write(found["mean"])), ("range", reach), *missing]


def _middle(name: str, numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [] if numbers["mean"] is None else [(name, f"{numbers['mean']:.2f} ± {numbers['std']:.2f}")]


def _quarters(numbers: Mapping[str, Any]) -> str:
    """Median, and where the middle half lies."""
    if numbers["mean"] is None:
        return "–"
    low, middle, high = (short(numbers["quantiles"][at]) for at in ("0.25", "0.5", "0.75"))
    return f"{middle} (half: {low} to {high})"
