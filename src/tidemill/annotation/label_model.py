"""What the votes of several labelling functions come to: how likely each label is, by how often each function is right.

Nobody knows the true labels, so they and the functions' reliability are found together: a label is as likely as the
functions that vote for it are reliable, and a function is as reliable as its votes are likely, over and over until
nothing changes (Dawid and Skene, *Maximum Likelihood Estimation of Observer Error-Rates*, 1979, with a Beta prior;
functions that say nothing of a row say nothing: Ratner et al., *Data Programming*, 2016). Rows whose label is known
hold this in place. Functions are taken to err independently of one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SILENT = -1
"""The vote of a function that says nothing of a row."""
PRIOR_RIGHT, PRIOR_WRONG = 7.0, 3.0
"""What is believed of a function before it has voted: as if it had been right seven times of ten."""
_STEPS, _EXACT = 200, 1e-6

Votes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelModel:
    """Reliability of labelling functions.

    Attributes:
        right: float64 ``[m, k]``: how often function *j* is right where it votes for label *c*.
        prior: float64 ``[k]``: how frequent each label is.
    """

    right: Floats
    prior: Floats

    def probabilities(self, votes: Votes) -> Floats:
        """How likely each label is, float64 ``[n, k]``; where no function votes, by the prior.

        Args:
            votes: codes ``[n, m]``, :data:`SILENT` where a function says nothing.
        """
        k = len(self.prior)
        odds = np.log(self.prior)[None, :] + np.zeros((len(votes), 1))
        for j in range(votes.shape[1]):
            spoke = np.flatnonzero(votes[:, j] != SILENT)
            said = votes[spoke, j]
            right = np.clip(self.right[j, said], 1e-3, 1 - 1e-3)
            # A vote speaks for its label as far as it beats the label's own frequency; a vote that is right no more
            # often than that says nothing.
            prior = np.clip(self.prior[said], 1e-3, 1 - 1e-3)
            wrong = (1 - right) / (1 - prior)
            odds[spoke] += np.log(wrong)[:, None]
            odds[spoke, said] += np.log(right / prior) - np.log(wrong)
        odds -= odds.max(axis=1, keepdims=True)
        found = np.exp(odds)
        found /= found.sum(axis=1, keepdims=True)
        assert found.shape == (len(votes), k)
        return np.asarray(found)


def fit_label_model(votes: Votes, classes: int, known: npt.NDArray[np.int64] | None = None) -> LabelModel:
    """Find out how far each function can be believed.

    Args:
        votes: codes ``[n, m]``, :data:`SILENT` where a function says nothing.
        classes: how many labels there are.
        known: codes ``[n]`` of rows whose label is known, :data:`SILENT` for the others.

    >>> votes = np.array([[0, 0, 1], [0, 0, 0], [1, 1, 0], [1, 1, 1], [0, -1, 1], [1, 1, 0]])
    >>> model = fit_label_model(votes, 2)
    >>> model.probabilities(votes).argmax(axis=1).tolist()
    [0, 0, 1, 1, 0, 1]
    """
    n, m = votes.shape
    known = np.full(n, SILENT, np.int64) if known is None else known
    spoken = (votes != SILENT).any(axis=1) | (known != SILENT)
    votes, known = votes[spoken], known[spoken]
    model = LabelModel(
        np.full((m, classes), PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG)), np.full(classes, 1.0 / classes)
    )
    if not len(votes):
        return model
    sure = known != SILENT
    before: Floats | None = None
    if sure.any():  # what is known for sure says where to begin
        model = _refit(votes[sure], np.eye(classes)[known[sure]], classes)
    for _ in range(_STEPS):
        likely = model.probabilities(votes)
        likely[sure] = np.eye(classes)[known[sure]]
        if before is not None and float(np.abs(likely - before).max()) < _EXACT:
            break
        before = likely
        model = _refit(votes, likely, classes)
    return model


def _refit(votes: Votes, likely: Floats, classes: int) -> LabelModel:
    right = np.empty((votes.shape[1], classes))
    for j in range(votes.shape[1]):
        spoke = np.flatnonzero(votes[:, j] != SILENT)
        said = votes[spoke, j]
        hits = np.bincount(said, likely[spoke, said], minlength=classes)
        cast = np.bincount(said, minlength=classes).astype(np.float64)
        # What is known of a function altogether is what is believed of each of its labels at first.
        overall = (PRIOR_RIGHT + hits.sum()) / (PRIOR_RIGHT + PRIOR_WRONG + cast.sum())
        strength = PRIOR_RIGHT + PRIOR_WRONG
        right[j] = (strength * overall + hits) / (strength + cast)
    prior = (likely.sum(axis=0) + 1.0) / (len(likely) + classes)
    return LabelModel(right, prior)


def summarise_votes(votes: Votes, names: list[str], known: npt.NDArray[Any], model: LabelModel) -> list[dict[str, Any]]:
    """What each function does.

    Returns:
        ``[{"name", "rows", "share", "conflicts", "judged", "right", "believed"}]``: rows it votes on and their share of
        all; the share of these on which another function says something else; of those with a known label, how many
        there are and the share that it has right (``None`` where there are none); and what the label model believes
        of its votes.
    """
    found = []
    for j, name in enumerate(names):
        spoke = votes[:, j] != SILENT
        others = np.delete(votes, j, axis=1)[spoke]
        against = ((others != SILENT) & (others != votes[spoke, j][:, None])).any(axis=1)
        judged = spoke & (known != SILENT)
        cast = votes[spoke, j]
        found.append(
            {
                "name": name,
                "rows": int(spoke.sum()),
                "share": float(spoke.mean()) if len(votes) else 0.0,
                "conflicts": float(against.mean()) if len(against) else 0.0,
                "judged": int(judged.sum()),
                "right": float((votes[judged, j] == known[judged]).mean()) if judged.any() else None,
                "believed": float(model.right[j, cast].mean()) if len(cast) else None,
            }
        )
    return found
