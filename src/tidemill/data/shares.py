"""How much of what is learned may rest on the word of few.

However plausible each label is: labels for which no trusted author vouches weigh in training no more than a share of
all other samples together, and so do those for which one trusted author alone does. Where there are more of them, each
weighs less. A floor keeps the first corrections of a small team worth making.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tidemill.config import FeedbackPolicy

if TYPE_CHECKING:
    from tidemill.data.settled import LiveSample

LEAST_NEW, LEAST_ONE = 100.0, 500.0
"""What labels without a trusted author, and those of one trusted author, may weigh in any case."""


def limited(
    samples: Sequence[LiveSample], imported: float, policy: FeedbackPolicy
) -> tuple[list[LiveSample], dict[str, int]]:
    """*samples* with the weights that those which train may have, and how many weigh less than 1, by the reason.

    Args:
        samples: settled ones, of all splits.
        imported: the weight of all training samples that come from the project's sources.
        policy: the shares.
    """
    unproven = [i for i, s in enumerate(samples) if s.split == "train" and not s.vouched]
    alone: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        if sample.split == "train" and sample.vouched and sample.by is not None:
            alone[sample.by].append(i)
    vouched = sum(s.split == "train" and s.vouched for s in samples)
    weights = dict.fromkeys(range(len(samples)), 1.0)
    said: dict[str, int] = {}
    for _, rows in sorted(alone.items()):
        most = max(LEAST_ONE, policy.author * (imported + vouched - len(rows)))
        if _scale(weights, rows, most):
            what = f"labels for which one author alone vouches weigh {most / len(rows):.2g} each"
            said[what] = said.get(what, 0) + len(rows)
    proven = imported + vouched - sum(map(len, alone.values()))
    proven += sum(weights[i] for rows in alone.values() for i in rows)
    most = max(LEAST_NEW, policy.newcomers * proven)
    if _scale(weights, unproven, most):
        said[f"labels of authors who are not trusted yet weigh {most / len(unproven):.2g} each"] = len(unproven)
    return [replace(s, weight=s.weight * weights[i]) for i, s in enumerate(samples)], said


def _scale(weights: dict[int, float], rows: Sequence[int], most: float) -> bool:
    """Let *rows* weigh no more than *most* together; whether they would have."""
    if len(rows) <= most:
        return False
    for row in rows:
        weights[row] = most / len(rows)
    return True
