"""Whether a model from an earlier cycle can be scored on a newer dataset version."""

from __future__ import annotations

from pathlib import Path

from tidemill.data.schema import Signature
from tidemill.errors import PackageError
from tidemill.packages import read_manifest


def unfit(package: Path, signature: Signature) -> str | None:
    """Why the packaged model cannot be scored on data of this signature; ``None`` when it can.

    Columns are renamed or left out and targets are changed between cycles, and packages are lost. More columns, or
    other labels, are no hindrance: a model does not read the former, and gives the latter no probability.
    """
    try:
        its = Signature.from_json(read_manifest(package).signature)
    except PackageError as error:
        return f"its package cannot be read ({error.what})"
    if (its.target, its.kind) != (signature.target, signature.kind):
        return f"it answers {its.target!r} ({its.kind}), and the target now is {signature.target!r} ({signature.kind})"
    fields = {f.name: f for f in signature.inputs}
    lost = [repr(f.name) for f in its.inputs if f.name not in fields]
    if lost:
        return f"it reads {', '.join(lost)}, which the data has no more"
    for old in its.inputs:
        new = fields[old.name]
        if (old.type, old.shape) != (new.type, new.shape):
            return f"it reads {old.name!r} as {_kind(old.type, old.shape)}, which now is {_kind(new.type, new.shape)}"
    return None


def _kind(kind: str, shape: tuple[int, ...] | None) -> str:
    return kind if shape is None else f"{kind} of {' x '.join(map(str, shape))}"
