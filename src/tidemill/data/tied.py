"""The rows of a version that are tied to others: equal, nearly equal, of one group, live, annotated or empty.

What becomes of a row on its own follows from its key alone; what becomes of these, from one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.data import splits
from tidemill.data.clean import EXAMPLES, Tally
from tidemill.data.forgotten import WHAT
from tidemill.data.keys import Keys, key_int, mix
from tidemill.data.parts import FORGOTTEN
from tidemill.data.schema import Signature
from tidemill.data.splits import DROPPED, Assigned
from tidemill.data.table import Facts, Table
from tidemill.data.targets import Mask, Stated, is_labelled, label_bits, settled_number, unlabelled
from tidemill.errors import InputError

SAME_TABLE = 0.5
"""When more of a table's training rows than this repeat a test row, its inputs can take few values only, and equality
is no leakage; the rows are kept, and that is reported."""
_PRESETS = {"train": splits.LIVE_TRAIN, "recent-validation": splits.LIVE_VALIDATION, "recent-test": splits.LIVE_TEST}


@dataclass(frozen=True, slots=True)
class LiveLabel:
    """What is known of one live row: its settled label, the split of its key, its weight."""

    label: Any
    split: str
    weight: float


class TiedRows:
    """Rows that may be tied to one another, side by side, while it is decided what becomes of them.

    Args:
        table: all rows.
        chosen: which of them, sorted.
        facts: what is known of all rows.
        signature: of the parts.
        live: settled labels by prediction id.
        tally: where to count.
    """

    def __init__(
        self,
        table: Table,
        chosen: npt.NDArray[np.int64],
        facts: Facts,
        signature: Signature,
        live: Mapping[str, LiveLabel],
        tally: Tally,
    ) -> None:
        self.table = table
        self.chosen = chosen
        self.facts = facts
        self.signature = signature
        self.tally = tally
        self.n = len(chosen)
        self.content: Keys = self.values("content")
        self.target = self.values("target")
        self.is_live = table.is_live(chosen)
        self.alive = np.ones(self.n, bool)
        self.weight = self.values("weight", np.float32(1)).astype(np.float32)
        self.stated = Stated(signature)
        self.preset = np.full(self.n, splits.NONE, np.int8)
        self.code = np.full(self.n, DROPPED, np.uint8)
        self.tables_only = all(f.type not in ("image", "text") for f in signature.inputs)
        self._place_live(live)
        self.samples = self._sample_keys()

    def values(self, name: str, default: Any = None) -> npt.NDArray[Any]:
        """One array of the parts' indexes, for these rows."""
        return self.table.gather(name, self.chosen, default)

    def _place_live(self, live: Mapping[str, LiveLabel]) -> None:
        """Labels, presets and weights of the live rows."""
        for part, start in zip(self.table.parts, self.table.starts, strict=False):
            if not part.live:
                continue
            at = int(np.searchsorted(self.chosen, start))  # live rows are always among the chosen
            for row, identifier in enumerate(part.origin.to_arrow().to_pylist(), at):
                said = live.get(identifier)
                value = None if said is None else self.stated.value(said.label)
                if said is None or value is None:
                    self.alive[row] = False
                    if said is not None:
                        what = "live labels of no known class were left out"
                        self.tally.add(what, 1, [f"{identifier}: {said.label!r}"])
                    continue
                self.target[row] = value
                self.preset[row] = _PRESETS[said.split]
                self.weight[row] = said.weight

    def _sample_keys(self) -> Keys:
        """Content keys; in tables, rows that agree in content but not in label are samples of their own."""
        samples = self.content.copy()
        if not self.tables_only:
            return samples
        labelled = is_labelled(self.target) & ~self.is_live
        rows = np.flatnonzero(labelled)
        bits = label_bits(self.target[rows])
        order = np.lexsort((bits, self.content[rows]))
        keys, labels = self.content[rows][order], bits[order]
        same_key = keys[1:] == keys[:-1]
        torn = np.unique(keys[1:][same_key & (labels[1:] != labels[:-1])])
        several = np.isin(self.content[rows], torn)
        samples[rows[several]] = mix(self.content[rows[several]] ^ mix(bits[several]))
        return samples

    def origins(self, rows: npt.NDArray[Any], more: npt.NDArray[Any] | None = None) -> list[str]:
        """What people call up to five rows, with the rows they were dropped for."""
        shown = [self.origin(int(r)) for r in rows[:EXAMPLES]]
        if more is not None:
            shown = [f"{a} = {self.origin(int(b))}" for a, b in zip(shown, more, strict=False)]
        return shown

    def origin(self, row: int) -> str:
        """What people call one row."""
        return self.table.origin(int(self.chosen[row]))

    def drop_forgotten(self) -> None:
        """Rows that were erased from their part."""
        gone = (self.values(FORGOTTEN, np.uint8(0)) > 0) & self.alive
        self.alive &= ~gone
        self.tally.add(WHAT, int(gone.sum()))

    def drop_empty(self) -> None:
        """Rows without any input, or of a weight that is none."""
        empty = self.values("empty") & self.alive
        self.alive &= ~empty
        self.tally.add("rows without any input were dropped", int(empty.sum()), self.origins(np.flatnonzero(empty)))
        barred = np.isnan(self.weight) & self.alive
        self.alive &= ~barred
        what = "rows of a negative weight were left out"
        self.tally.add(what, int(barred.sum()), self.origins(np.flatnonzero(barred)))

    def annotate(self, annotations: Mapping[str, Any]) -> None:
        """Labels that annotators gave to samples override those of the source."""
        if not annotations:
            return
        said: dict[int, Any] = {}
        for identifier, label in annotations.items():
            value = self.stated.value(label)
            try:
                key = key_int(identifier.removeprefix("smp_"))
            except InputError:
                value = None
                key = 0
            if value is None:
                self.tally.add("annotations that fit no class or sample were left out", 1, [f"{identifier}: {label!r}"])
            else:
                said[key] = value
        known = np.array(sorted(said), np.uint64)
        values = np.array([said[int(k)] for k in known], self.target.dtype)
        if not len(known):
            return
        at = np.minimum(np.searchsorted(known, self.samples), len(known) - 1)
        hit = (known[at] == self.samples) & ~self.is_live
        old = is_labelled(self.target)
        changed = hit & old & (label_bits(self.target) != label_bits(values)[at])
        what = "labels of the source were overridden by annotators"
        self.tally.add(what, int(changed.sum()), self.origins(np.flatnonzero(changed)))
        given = hit & ~old
        what = "unlabelled samples were labelled by annotators"
        self.tally.add(what, int(given.sum()), self.origins(np.flatnonzero(given)))
        self.target[hit] = values[at][hit]

    def preset_from_sources(self) -> None:
        """The source's own split, unless it was set aside."""
        if not self.facts.set_aside:
            imported = ~self.is_live
            self.preset[imported] = self.values("source")[imported] + 1

    def same_by_nature(self, inverse: npt.NDArray[np.int64]) -> Mask:
        """Rows of a table that repeat across the source's splits because there are few possible rows."""
        exempt = np.zeros(self.n, bool)
        if not self.tables_only:
            return exempt
        trains = self.alive & (self.preset == splits.SOURCE_TRAIN)
        judges = self.alive & np.isin(self.preset, (splits.SOURCE_TEST, splits.SOURCE_VALIDATION))
        judged = np.zeros(int(inverse.max()) + 1, bool)
        judged[inverse[judges]] = True
        repeats = trains & judged[inverse]
        if repeats.sum() <= SAME_TABLE * self.facts.training:
            return exempt
        what = "rows that stand in several splits were kept, since the inputs can take few values only"
        self.tally.add(what, int(repeats.sum()), self.origins(np.flatnonzero(repeats)))
        torn = np.zeros(len(judged), bool)
        torn[inverse[repeats]] = True
        exempt |= torn[inverse] & (trains | judges)
        return exempt

    def report(self, assigned: Assigned) -> None:
        """Count what splitting did."""
        for what, which in (
            ("source rows that match rows of a test or validation split were dropped", assigned.leaked),
            ("newcomers that tie two splits together were dropped", assigned.quarantined),
            ("single samples of a class were put into train", assigned.alone),
            ("samples were moved so that no split stays without labels", assigned.moved),
        ):
            self.tally.add(what, int((which & self.alive).sum()), self.origins(np.flatnonzero(which & self.alive)))

    def merge_duplicates(self, inverse: npt.NDArray[np.int64]) -> None:
        """Of rows equal in content keep one; in tables one for each label, weighted by how often it occurs."""
        kept = np.flatnonzero(self.code != DROPPED)
        groups = inverse[kept].astype(np.int64) * 8 + self.code[kept]
        labelled = is_labelled(self.target[kept])
        # Within a group: imported before live, labelled before unlabelled, then in order.
        order = np.lexsort((kept, self.is_live[kept], ~labelled, groups))
        kept, groups, labelled = kept[order], groups[order], labelled[order]
        first = np.append(True, groups[1:] != groups[:-1])
        if first.all():
            return
        leader = np.maximum.accumulate(np.where(first, np.arange(len(kept)), 0))
        head = kept[leader]
        bits = label_bits(self.target)
        agrees = bits[kept] == bits[head]
        overruled = labelled & ~agrees & self.is_live[kept] & ~self.is_live[head]
        torn = np.isin(leader, leader[labelled & ~agrees & ~overruled])
        same = ~first & ~torn
        what = "live labels that contradict the label of an imported sample were left out"
        self.tally.add(what, int(overruled.sum()), self.origins(kept[overruled], head[overruled]))
        self.code[kept[same]] = DROPPED
        what = "exact duplicates were dropped"
        if self.tables_only:
            what = "equal rows were merged into one of their weight"
            counted = same & ~self.is_live[kept] & (labelled == labelled[leader])
            np.add.at(self.weight, head[counted], self.weight[kept[counted]])
        self.tally.add(what, int((same & ~overruled).sum()), self.origins(kept[same], head[same]))
        for lead in np.unique(leader[torn]).tolist():  # few, so one after the other
            self._settle(kept[lead : int(np.searchsorted(leader, lead, side="right"))])

    def _settle(self, group: npt.NDArray[np.int64]) -> None:
        """Rows of equal content with several labels; the first is labelled, and imported if any of them is."""
        home = self.code[group[0]]
        rows = group[is_labelled(self.target[group]) & (self.is_live[group] == self.is_live[group[0]])]
        _, first, place, counts = np.unique(
            label_bits(self.target[rows]), return_index=True, return_inverse=True, return_counts=True
        )
        heads = rows[first]
        said = " / ".join(
            sorted(f"{self.stated.shown(self.target[h])} ({n})" for h, n in zip(heads, counts, strict=True))
        )
        example = [f"{self.origin(int(rows[0]))}: {said}"]
        self.code[group] = DROPPED
        if self.tables_only:
            self.code[heads] = home
            self.weight[heads] = np.bincount(place, self.weight[rows])
            self.tally.add("rows of a table equal in content but not in label were kept", len(rows), example)
            what = "equal rows were merged into one of their weight"
            self.tally.add(what, int((counts - 1).sum()), [self.origin(int(rows[0]))])
        elif (counts == counts.max()).sum() == 1:
            self.code[heads[counts.argmax()]] = home
            self.tally.add("duplicates with several labels were settled by majority", len(rows), example)
        elif self.signature.kind == "regression" and (number := settled_number(self.target[rows].tolist())) is not None:
            self.code[heads[0]] = home
            self.target[heads[0]] = number
            self.tally.add("duplicates with several numbers were settled by their median", len(rows), example)
        else:
            self.code[heads[0]] = home
            self.target[heads[0]] = unlabelled(self.signature, 1)[0]
            self.tally.add("duplicates with contradicting labels were taken for unlabelled", len(rows), example)
