"""What stands out in a dataset version, in one sentence each, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidemill.records import JSON

MOST = 3
"""Findings of one kind that have a sentence of their own."""
FEW = 10
"""Training rows of a label under which it is called rare."""
LOPSIDED = 10
"""The most frequent label has so many times the rows of the least frequent one."""
MISSING = 0.05
"""Share of missing values that is worth a word."""


def findings(page: JSON) -> list[JSON]:
    """What stands out on a data page.

    Args:
        page: what :func:`tidemill.project.data_page.data` gives.

    Returns:
        ``[{"of", "text"}]``; *of* is ``labels``, ``drift``, ``label_errors``, ``missing``, ``columns`` or
        ``duplicates``.
    """
    profile = page["profile"]
    parts = (
        ("labels", _unseen(profile)),
        ("drift", (text for c in [*page["drift"]["splits"], page["drift"]["versions"]] if c for text in _moved(c))),
        ("label_errors", _wrong(page["label_errors"])),
        ("labels", _uneven(profile)),
        ("missing", _missing(page["missing"])),
        ("columns", _idle(profile)),
        ("duplicates", _repeated(profile["duplicates"])),
    )
    return [{"of": of, "text": text} for of, texts in parts for text in texts]


def _counts(profile: JSON, split: str) -> dict[str, int]:
    """Rows by label; empty for numbers and for a split that has no rows."""
    counts = profile["balance"].get(split, {}).get("counts", [])
    return dict(zip(profile["labels"], counts, strict=False))


def _unseen(profile: JSON) -> Iterator[str]:
    train = _counts(profile, "train")
    for split in profile["splits"]:
        strange = [label for label, count in _counts(profile, split).items() if count and not train.get(label)]
        if strange:
            yield f"{_listed('the label', strange)} {_is(strange)} in {split}, and never in train"
    for split, size in profile["splits"].items():
        without = size["rows"] - size["labelled"]
        if without:
            yield f"{without:,} of {size['rows']:,} rows of {split} have no label"


def _moved(comparison: JSON) -> Iterator[str]:
    lines = [line for line in comparison["columns"] if line["moved"]]
    for line in lines[:MOST]:
        yield line["sentence"]
    if len(lines) > MOST:
        names = [f"'{line['column']}'" if line["type"] != "label" else "the label" for line in lines[MOST:]]
        differ = "differs" if len(names) == 1 else "differ"
        yield f"{_joined(names)} {differ} between {comparison['before']} and {comparison['after']} too"
    for what, key in (("came in", "added"), ("went away", "removed"), ("changed type", "retyped")):
        if comparison[key]:
            yield f"{_listed('the column', comparison[key])} {what} since {comparison['before']}"


def _wrong(found: JSON) -> Iterator[str]:
    if found.get("suspected"):
        what = "value" if found["kind"] == "regression" else "label"
        by = found["by"]
        agrees = f" and of one mind with {_share(by['value'])} of all labels" if by["metric"] == "accuracy" else ""
        yield (
            f"the {what} is doubtful in {found['suspected']:,} of {found['rows']:,} rows ({_share(found['share'])}): "
            f"'{by['recipe']}', fitted without them{agrees}, says otherwise"
        )


def _uneven(profile: JSON) -> Iterator[str]:
    counts = {label: count for label, count in _counts(profile, "train").items() if count}
    if len(counts) < 2:
        return
    most, least = max(counts, key=lambda label: counts[label]), min(counts, key=lambda label: counts[label])
    if counts[most] >= LOPSIDED * counts[least]:
        yield f"labels are uneven in train: {counts[most]:,} rows of '{most}', {counts[least]:,} of '{least}'"
    rare = [label for label, count in counts.items() if count < FEW]
    if rare:
        yield f"{_listed('the label', rare)} {_has(rare)} fewer than {FEW} rows in train"


def _missing(lines: list[JSON]) -> Iterator[str]:
    grave = [line for line in lines if line["share"] >= MISSING]
    for line in grave[:MOST]:
        yield f"'{line['column']}' is missing in {_share(line['share'])} of the rows"
    if len(grave) > MOST:
        yield f"{len(grave) - MOST} more columns miss values in {_share(MISSING)} of the rows or more"


def _idle(profile: JSON) -> Iterator[str]:
    """Columns that say nothing, and images of one colour."""
    described = [(c["name"], c["type"], c["splits"].get("train")) for c in profile["columns"]]
    known: list[tuple[str, str, dict[str, Any]]] = [(n, t, d) for n, t, d in described if d and d["rows"]]
    constant = [name for name, kind, d in known if kind != "image" and d["distinct"] <= 1]
    if constant:
        yield f"{_listed('the column', constant)} {_has(constant)} one value at most in train"
    for name, kind, d in known:
        if kind == "image" and d["blank"]:
            yield f"{d['blank']:,} of {d['rows']:,} images of '{name}' that were read are of one colour"


def _repeated(duplicates: JSON) -> Iterator[str]:
    exact, near = duplicates["exact"], duplicates["near"]
    if exact["dropped"]:
        yield f"{exact['dropped']:,} rows that repeat another were left out"
    if near["dropped"]:
        yield f"{near['dropped']:,} near copies of rows in another split were left out"
    if near["clusters"] and near["by"] == "likeness":
        yield f"{near['rows']:,} rows are near copies of one another, in {near['clusters']:,} clusters"


def _listed(noun: str, names: list[str]) -> str:
    """``the labels 'a', 'b'``.

    >>> _listed("the label", ["a", "b"]), _listed("the column", ["a"])
    ("the labels 'a', 'b'", "the column 'a'")
    """
    return f"{noun}{'s' if len(names) > 1 else ''} {_joined([repr(name) for name in names])}"


def _joined(names: list[str], most: int = 5) -> str:
    """Of many names the first.

    >>> _joined(list("abcdefg"))
    'a, b, c, d, e and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _is(names: list[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _has(names: list[str]) -> str:
    return "have" if len(names) > 1 else "has"


def _share(value: float) -> str:
    """A share in percent.

    >>> _share(0.0123), _share(0.5)
    ('1.2 %', '50 %')
    """
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"
