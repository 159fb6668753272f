"""Drift: how far two samples of the same columns lie apart, by pure functions over what is known of each.

A sample is described by :func:`tidemill.data.describe.describe`, so the same comparison serves training against test
data, one dataset version against the next, and live traffic against either. For each column it gives how *large* the
difference is and how *sure* it is that there is one:

* numbers and dates: the Kolmogorov-Smirnov distance, and the 1-Wasserstein distance in standard deviations;
* categories and labels: the population stability index and the Jensen-Shannon divergence, with a chi-squared test;
* texts: their length as a number, and the Jensen-Shannon divergence of their hashed words (without a classifier), with
  a permutation test over groups of texts;
* images: brightness and contrast as numbers;
* all: the share of missing values.

p-values are adjusted by Holm's method over everything that is compared. The size decides whether a column has *moved*,
and the p-value only whether that can be believed: a million rows make any difference significant, and nothing of it
need matter. Sizes are in one unit: 1 is where a difference begins to matter (moderate), 2.5 where it is large.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, kolmogorov, ndtr, xlogy

from tidemill.data.arrays import Ragged
from tidemill.data.describe import BUCKETS, POINTS, share_below
from tidemill.data.keys import hash_strings, mix
from tidemill.data.schema import Field, FieldType
from tidemill.records import JSON

MODERATE, LARGE = 1.0, 2.5
ALPHA = 0.05
DISTANCE = 0.1
"""Kolmogorov-Smirnov distance of size 1."""
SPREADS = 0.2
"""Wasserstein distance in standard deviations of size 1 (Cohen's small effect)."""
STABILITY = 0.1
"""Population stability index of size 1; 0.25 is large (Siddiqi, *Credit Risk Scorecards*, 2006)."""
WORDS = 0.0125
"""Jensen-Shannon divergence of words, in bits, of size 1; news of business and of technology are 0.03 apart."""
MISSING = 0.05
"""Difference in the share of missing values of size 1."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing compared between two samples.

    Attributes:
        of: ``values``, ``missing``, ``length``, ``words``, ``brightness``, ``contrast``, ``label``, ``certainty``, or
            ``together``.
        size: of the effect; 1 is moderate, 2.5 large.
        p: of no difference, before adjustment; ``None`` when there are too few rows to say.
        statistics: by name, such as ``ks``, ``wasserstein``, ``psi``, ``js``.
        words: what differs, to follow the column's name in a sentence.
    """

    of: str
    size: float
    p: float | None
    statistics: dict[str, float] = field(default_factory=dict)
    words: str = ""


def drift(
    fields: Sequence[Field],
    before: Mapping[str, JSON],
    after: Mapping[str, JSON],
    *,
    names: tuple[str, str] = ("before", "after"),
    labels: tuple[JSON, JSON] | None = None,
    others: Sequence[tuple[str, list[Difference]]] = (),
) -> list[JSON]:
    """Every column's difference between two samples, the largest first.

    Args:
        fields: the columns to compare.
        before: descriptions by column, of the sample to compare with.
        after: descriptions by column, of the other sample. A column that one of them lacks is left out.
        names: what to call the samples in sentences.
        labels: what :func:`label_counts` gives of each sample's labels, or two descriptions of a target's numbers.
        others: further differences, each list under a name that says what was compared; they count in the adjustment.

    Returns:
        For each column ``{"column", "type", "moved", "effect", "size", "p", "sentence", "differences": [{"of", "size",
        "p", "statistics"}]}``: ``effect`` is ``none`` (chance may have done it), ``tiny``, ``moderate`` or ``large``;
        it has moved when that is moderate or large; ``p`` is the least of its adjusted p-values. The labels' column is
        called ``label`` and has the type ``label``; those of *others* have their name as their type, too.

    >>> from tidemill.data.describe import describe
    >>> rng = np.random.default_rng(0)
    >>> hours = [describe(rng.normal(mean, 5, 1000), "number") for mean in (40, 46)]
    >>> [found] = drift([Field(name="hours", type="number")], {"hours": hours[0]}, {"hours": hours[1]})
    >>> found["effect"], found["sentence"]
    ('large', "'hours' is 16 % higher in after than in before (mean 46, was 39.8)")
    """
    compared = [
        (f.name, str(f.type), _compare(f.type, before[f.name], after[f.name], names))
        for f in fields
        if f.name in before and f.name in after
    ]
    if labels is not None:
        compared.append(("label", "label", label_differences(*labels, names)))
    compared += [(name, name, found) for name, found in others]
    compared = [(name, kind, found) for name, kind, found in compared if found]
    adjusted = iter(holm([d.p for _, _, found in compared for d in found]))
    lines = [_line(name, kind, found, [next(adjusted) for _ in found]) for name, kind, found in compared]
    return sorted(lines, key=lambda line: (-_RANKS.index(line["effect"]), -line["size"]))


_RANKS = ("none", "tiny", "moderate", "large")
_TYPES = get_args(FieldType)


def level(size: float, p: float | None) -> str:
    """``none``, ``tiny``, ``moderate`` or ``large``.

    >>> level(3.0, 0.2), level(0.02, 1e-9), level(1.2, 0.001), level(3.0, 0.001)
    ('none', 'tiny', 'moderate', 'large')
    """
    if p is None or p >= ALPHA:
        return "none"
    return "tiny" if size < MODERATE else "moderate" if size < LARGE else "large"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted so that all of them may be looked at (Holm, 1979); ``None`` stays and does not count.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _line(name: str, kind: str, found: Sequence[Difference], adjusted: Sequence[float | None]) -> JSON:
    ranked = sorted(
        zip(found, adjusted, strict=True), key=lambda pair: (-_RANKS.index(level(pair[0].size, pair[1])), -pair[0].size)
    )
    worst, p = ranked[0]
    effect = level(worst.size, p)
    said = [d.words for d, a in ranked if d.words and level(d.size, a) in ("moderate", "large")]
    shown = f"'{name}'" if kind in _TYPES else f"the {name}"
    sentence = "; ".join(said) or (worst.words if effect == "tiny" and worst.words else "does not differ")
    return {
        "column": name,
        "type": kind,
        "moved": effect in ("moderate", "large"),
        "effect": effect,
        "size": round(worst.size, 4),
        "p": min((a for a in adjusted if a is not None), default=None),
        "sentence": f"{shown} {sentence}",
        "differences": [
            {"of": d.of, "size": round(d.size, 4), "p": a, "statistics": _rounded(d.statistics)} for d, a in ranked
        ],
    }


def _rounded(statistics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in statistics.items()}


def _compare(kind: str, before: JSON, after: JSON, names: tuple[str, str]) -> list[Difference]:
    if before["rows"] == 0 or after["rows"] == 0:
        return []
    found = [_missing(before, after, names)]
    if kind in ("number", "date"):
        found += compare_numbers(before, after, "values", names, date=kind == "date")
    elif kind == "category":
        found += compare_values(before, after, names)
    elif kind == "text":
        found += compare_numbers(before["characters"], after["characters"], "length", names)
        found += compare_words(before, after, names)
    else:
        found += compare_numbers(before["brightness"], after["brightness"], "brightness", names)
        found += compare_numbers(before["contrast"], after["contrast"], "contrast", names)
    return found


# numbers ----------------------------------------------------------------------------------------------------------


def compare_numbers(
    before: JSON, after: JSON, of: str, names: tuple[str, str], *, date: bool = False
) -> list[Difference]:
    """Kolmogorov-Smirnov and 1-Wasserstein distances of two descriptions of numbers; nothing when one has none.

    The p-value is that of the two-sample Kolmogorov-Smirnov test, which is conservative for values that repeat.
    """
    n, m = before["rows"] - before["missing"], after["rows"] - after["missing"]
    if n == 0 or m == 0:
        return []
    grid = np.unique(np.array([*before["_values"], *after["_values"]]))
    left, right = share_below(before, grid), share_below(after, grid)
    gap = np.abs(left - right)
    distance = float(gap.max())
    sketched = max(before["distinct"], after["distinct"]) > POINTS
    effective = n * m / (n + m)
    p = float(kolmogorov(np.sqrt(effective) * max(0.0, distance - (1 / POINTS if sketched else 0.0))))
    spread = before["std"] or after["std"] or 1.0
    moved = float((gap[:-1] * (np.diff(grid) / spread)).sum())
    size = max(distance / DISTANCE, moved / SPREADS)
    statistics = {"ks": distance, "wasserstein": moved}
    words = _number_words(before, after, of, names, moved, spread, date=date)
    return [Difference(of=of, size=size, p=p, statistics=statistics, words=words)]


_QUALITIES = {
    "values": ("higher", "lower"),
    "length": ("longer", "shorter"),
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "poorer in contrast"),
    "certainty": ("surer", "less sure"),
}


def _number_words(
    before: JSON, after: JSON, of: str, names: tuple[str, str], moved: float, spread: float, *, date: bool
) -> str:
    was, now = before["mean"], after["mean"]
    up, down = ("later", "earlier") if date else _QUALITIES[of]
    where = f"in {names[1]} than in {names[0]}"
    step = (now - was) / spread
    if abs(step) < 0.5 * moved or abs(step) < 1e-9:
        return (
            f"is spread differently {where}: half of it lies from {_middle(after, date)}, was {_middle(before, date)}"
        )
    what = up if now > was else down
    means = f"(mean {_shown(now, date)}, was {_shown(was, date)})"
    if date:
        return f"is {_duration(abs(now - was))} {what} {where} {means}"
    if min(before["min"], after["min"]) >= 0 and was > 0:
        return f"is {_percent(abs(now / was - 1))} {what} {where} {means}"
    return f"is {abs(step):.2g} standard deviations {what} {where} {means}"


def _middle(described: JSON, date: bool) -> str:
    quantiles = described["quantiles"]
    return f"{_shown(quantiles['0.25'], date)} to {_shown(quantiles['0.75'], date)}"


def _shown(value: float, date: bool) -> str:
    if not date:
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"
    try:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    except (OverflowError, OSError, ValueError):  # before the year 1 or after 9999
        return f"{value:.3g} s"


def _duration(seconds: float) -> str:
    for unit, length in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _percent(share: float) -> str:
    return f"{100 * share:,.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


# categories and labels --------------------------------------------------------------------------------------------


def compare_values(before: JSON, after: JSON, names: tuple[str, str]) -> list[Difference]:
    """Stability index, divergence and chi-squared of two descriptions of categories; nothing when one has none.

    Above 256 distinct values they are compared in 512 hashed buckets, so many categories cost no more than few.
    """
    exact = before["_buckets"] is None and after["_buckets"] is None
    known = {value: i for i, value in enumerate(dict.fromkeys(v for v, _ in [*before["top"], *after["top"]]))}
    left, right = (_counts(side, known) if exact else _buckets(side) for side in (before, after))
    if not left.sum() or not right.sum():
        return []
    found = _compare_counts(left, right)
    words = _top_words(before, after, names)
    if exact and (fresh := right[left == 0].sum() / right.sum()) >= MISSING / 2:
        count = int((left == 0).sum())
        which = f"{count} values" if count > 1 else f"'{next(v for v, i in known.items() if left[i] == 0)}'"
        words = f"has {which} in {_percent(float(fresh))} of {names[1]} that {names[0]} never has; {words}"
    return [Difference(of="values", words=words, **found)]


def _counts(side: JSON, known: Mapping[str, int]) -> Floats:
    counts = np.zeros(len(known))
    for value, count in side["top"]:
        counts[known[value]] += count
    return counts


def _buckets(side: JSON) -> Floats:
    if side["_buckets"] is not None:
        return np.array(side["_buckets"], np.float64)
    if not side["top"]:
        return np.zeros(BUCKETS)
    values, counts = zip(*side["top"], strict=True)
    places = (mix(hash_strings(Ragged.from_strings(values))) % np.uint64(BUCKETS)).astype(np.int64)
    return np.bincount(places, counts, BUCKETS).astype(np.float64)


def _compare_counts(left: Floats, right: Floats) -> dict[str, Any]:
    """Size, p-value and statistics of two rows of counts over the same cells."""
    n, m = left.sum(), right.sum()
    some = left + right > 0
    p, q = left[some] / n, right[some] / m
    # What chance alone puts between two samples of one distribution is taken off: (cells - 1) (1/n + 1/m).
    chance = (len(p) - 1) * (1 / n + 1 / m)
    half_p, half_q = (left[some] + 0.5) / (n + 0.5 * len(p)), (right[some] + 0.5) / (m + 0.5 * len(p))
    stability = max(0.0, float(((half_p - half_q) * np.log(half_p / half_q)).sum()) - chance)
    divergence = max(0.0, float(_divergences(p[None], q[None])[0]) - chance / 8 / np.log(2))
    return {
        "size": stability / STABILITY,
        "p": chi_squared(left[some], right[some]),
        "statistics": {"psi": stability, "js": divergence},
    }


def chi_squared(left: Floats, right: Floats) -> float | None:
    """The p-value of the test that two rows of counts are of one distribution; cells expected under 5 are pooled.

    >>> round(chi_squared(np.array([50.0, 50.0]), np.array([30.0, 70.0])), 4)
    0.0039
    """
    total = left + right
    n, m = left.sum(), right.sum()
    rare = total * (min(n, m) / (n + m)) < 5
    left, right = (np.append(side[~rare], side[rare].sum()) for side in (left, right))
    total = left + right
    left, right, total = left[total > 0], right[total > 0], total[total > 0]
    if len(total) < 2:
        return None
    expected = total * n / (n + m), total * m / (n + m)
    statistic = ((left - expected[0]) ** 2 / expected[0] + (right - expected[1]) ** 2 / expected[1]).sum()
    return float(chdtrc(len(total) - 1, statistic))


def _top_words(before: JSON, after: JSON, names: tuple[str, str]) -> str:
    """The value whose share changed most, in words."""
    n, m = (max(1, side["rows"] - side["missing"]) for side in (before, after))
    old, new = dict(before["top"]), dict(after["top"])
    if not old and not new:
        return ""
    most = max({**old, **new}, key=lambda value: abs(new.get(value, 0) / m - old.get(value, 0) / n))
    shown = most if len(most) <= 60 else f"{most[:59]}…"
    was, now = _percent(old.get(most, 0) / n), _percent(new.get(most, 0) / m)
    return f"is '{shown}' in {now} of {names[1]}, in {was} of {names[0]}"


def label_counts(labels: Sequence[str], counts: Sequence[int], rows: int | None = None) -> JSON:
    """A sample's labels, for :func:`drift`.

    Args:
        labels: their names.
        counts: how many rows have each.
        rows: for multilabel, how many labelled rows there are; for one label a row it follows from the counts.
    """
    return {"labels": list(labels), "counts": [int(c) for c in counts], "rows": rows}


def label_differences(before: JSON, after: JSON, names: tuple[str, str]) -> list[Difference]:
    """The differences between the labels of two samples, or between a target's numbers; see :func:`drift`."""
    if "labels" not in before or "labels" not in after:  # a regression's target
        return compare_numbers(before, after, "values", names) if "_cdf" in before and "_cdf" in after else []
    known = list(dict.fromkeys([*before["labels"], *after["labels"]]))
    place = {label: i for i, label in enumerate(known)}
    left, right = np.zeros(len(known)), np.zeros(len(known))
    for side, counts in ((before, left), (after, right)):
        counts[[place[label] for label in side["labels"]]] = side["counts"]
    if before["rows"] is not None and after["rows"] is not None:
        return _each_label(known, left, right, (before["rows"], after["rows"]), names)
    if not left.sum() or not right.sum():
        return []
    parts = [
        {"rows": int(c.sum()), "missing": 0, "top": list(zip(known, c.tolist(), strict=True))} for c in (left, right)
    ]
    return [Difference(of="label", words=_top_words(parts[0], parts[1], names), **_compare_counts(left, right))]


def _each_label(
    known: Sequence[str], left: Floats, right: Floats, rows: tuple[int, int], names: tuple[str, str]
) -> list[Difference]:
    """Multilabel: one comparison a label, of rows with and without it."""
    if not rows[0] or not rows[1]:
        return []
    found = []
    for label, was, now in zip(known, left.tolist(), right.tolist(), strict=True):
        p, q = was / rows[0], now / rows[1]
        cells = np.array([was, rows[0] - was]), np.array([now, rows[1] - now])
        words = f"'{label}' is given to {_percent(q)} of {names[1]}, to {_percent(p)} of {names[0]}"
        found.append(Difference(of="label", words=words, **_compare_counts(*cells)))
    return found


def _missing(before: JSON, after: JSON, names: tuple[str, str]) -> Difference:
    n, m = before["rows"], after["rows"]
    p, q = before["missing"] / n, after["missing"] / m
    pooled = (before["missing"] + after["missing"]) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    value = None if error == 0 else float(2 * ndtr(-abs(p - q) / error))
    if error > 0 and min(pooled, 1 - pooled) * min(n, m) < 5:  # too few for the normal approximation
        from scipy.stats import fisher_exact

        table = np.array([[before["missing"], n - before["missing"]], [after["missing"], m - after["missing"]]])
        value = float(fisher_exact(table).pvalue)
    words = f"is missing in {_percent(q)} of {names[1]}, in {_percent(p)} of {names[0]}"
    return Difference(
        of="missing", size=abs(p - q) / MISSING, p=value, statistics={"before": p, "after": q}, words=words
    )


# texts ------------------------------------------------------------------------------------------------------------


def compare_words(before: JSON, after: JSON, names: tuple[str, str]) -> list[Difference]:
    """The words of two samples of texts; nothing when one has none.

    The Jensen-Shannon divergence is that of the numbers of texts that have a word of each of 512 buckets. How far two
    samples of the same texts would lie apart is known from the random groups that each sample was counted in: the
    p-value is that of a permutation test over the groups, and what chance makes is taken off the divergence.
    """
    left, right = (np.array(side["_groups"], np.float64) for side in (before, after))
    if not left[:, 1:].sum() or not right[:, 1:].sum():
        return []
    own = float(_divergences(*(_shares(side[:, 1:].sum(axis=0, keepdims=True)) for side in (left, right)))[0])
    p, chance = _by_chance(left, right) if min((side[:, 1:].sum(axis=1) > 0).sum() for side in (left, right)) >= 4 \
        else (None, 0.0)  # fmt: skip
    divergence = max(0.0, own - chance)
    words = _word_words(before, after, names)
    return [Difference(of="words", size=divergence / WORDS, p=p, statistics={"js": divergence}, words=words)]


def _by_chance(left: Floats, right: Floats) -> tuple[float, float]:
    """The p-value of a permutation test over groups of texts, and the divergence that chance alone makes."""
    rates = np.concatenate([side[:, 1:] / np.maximum(side[:, :1], 1) for side in (left, right)])
    count, half = len(rates), len(left)
    # One group always stays on its side: the mirror image of a split is the same split.
    chosen = np.array([(0, *rest) for rest in itertools.combinations(range(1, count), half - 1)])
    sides = np.zeros((len(chosen), count))
    np.put_along_axis(sides, chosen, 1.0, axis=1)
    p, q = _shares(sides @ rates), _shares((1 - sides) @ rates)
    # Weighted by what is known best, which no split changes: weights from the sides' own rates would lean on the noise
    # of the smaller sample. For samples of one size this is about eight times the Jensen-Shannon divergence.
    known = _shares((left + right)[:, 1:].sum(axis=0, keepdims=True))
    found = (np.square(p - q) / np.maximum(known, 1e-300)).sum(axis=1)
    value = float((found >= found[0] * (1 - 1e-12)).mean())  # the first split is the true one
    # When the samples differ, random splits differ too, by a share of 1 / (count - 1) of the true difference.
    share = 1 / (count - 1)
    chance = float((found[1:].mean() - share * found[0]) / (1 - share))
    return value, max(0.0, chance) / 8 / np.log(2)


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _divergences(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence in bits, row by row."""
    middle = (p + q) / 2
    total = (xlogy(p, p) + xlogy(q, q)).sum(axis=1) / 2 - xlogy(middle, middle).sum(axis=1)
    found: Floats = total / np.log(2)
    return found


def _word_words(before: JSON, after: JSON, names: tuple[str, str]) -> str:
    """The words of which there are clearly more, and clearly fewer."""
    n, m = max(1, before["read"]), max(1, after["read"])
    old, new = dict(before["_words"]), dict(after["_words"])
    gains: dict[str, float] = {}
    for word in {*old, *new}:
        p, q = old.get(word, 0) / n, new.get(word, 0) / m
        error = np.sqrt((p + q) * (1 / n + 1 / m) / 2) or 1.0
        gains[word] = float((q - p) / error)
    ranked = sorted(gains, key=lambda word: (-gains[word], word))
    more = [f"'{w}'" for w in ranked[:4] if gains[w] > 3]
    fewer = [f"'{w}'" for w in ranked[::-1][:4] if gains[w] < -3]
    said = [f"more of {', '.join(more)}"] if more else []
    said += [f"fewer of {', '.join(fewer)}"] if fewer else []
    return f"uses other words in {names[1]} than in {names[0]}" + (f": {'; '.join(said)}" if said else "")
