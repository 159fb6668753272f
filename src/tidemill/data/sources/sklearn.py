"""The small real data sets that scikit-learn carries: ``sklearn:digits`` and its sisters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from difflib import get_close_matches

import numpy as np
import pyarrow as pa

from tidemill.data import images
from tidemill.data.sources._base import NO_SPLIT, Batch, Limits, RawColumn, Shapes, Source, Summary, numbered
from tidemill.data.sources._summary import summarise
from tidemill.errors import SourceError

NAMES = ("digits", "iris", "wine", "breast_cancer", "diabetes")


class SklearnSource(Source):
    """``digits`` has the columns ``image`` (8 x 8, its 0-16 scaled to 0-255) and ``label``.

    The tables have their features and ``target`` (class names where there are any).
    """

    def __init__(self, name: str, limits: Limits) -> None:
        super().__init__(f"sklearn:{name}", limits)
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            raise SourceError(
                f"scikit-learn has no data set {name!r} that Tidemill reads.",
                mend=f"Did you mean sklearn:{near[0]}?" if near else f"Give one of {', '.join(NAMES)}.",
            )
        self.dataset = name
        if name == "digits":
            self.notes.append("digits: pixels 0-16 are scaled to 0-255")

    def fingerprint(self) -> str:
        """Follows the release of scikit-learn."""
        import sklearn

        return hashlib.sha256(f"{self.name} {sklearn.__version__}".encode()).hexdigest()

    def summary(self) -> Summary:
        """One pass over the data, which is small."""
        target = "label" if self.dataset == "digits" else "target"
        return summarise(self.name, self.batches(), self.notes, target)

    def batches(self, size: int = 8192, *, shapes: Shapes | None = None) -> Iterator[Batch]:
        """All rows in scikit-learn's order."""
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{self.dataset}")()
        columns: dict[str, RawColumn]
        if self.dataset == "digits":
            pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
            columns = {
                "image": images.fit_all(pixels, tuple((shapes or {}).get("image", (8, 8, 1)))),
                "label": pa.array(bunch.target),
            }
        else:
            columns = {
                str(n): pa.array(np.ascontiguousarray(bunch.data[:, i])) for i, n in enumerate(bunch.feature_names)
            }
            names = getattr(bunch, "target_names", None)
            columns["target"] = pa.array(bunch.target if names is None else np.asarray(names)[bunch.target].tolist())
        rows = len(bunch.target)
        for start in range(0, rows, size):
            part: dict[str, RawColumn] = {n: c[start : start + size] for n, c in columns.items()}
            count = min(size, rows - start)
            yield Batch(part, np.full(count, NO_SPLIT, np.int8), numbered(self.name, start + 1, count))
