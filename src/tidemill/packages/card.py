"""``README.md`` of a package: its model card (Mitchell et al., 2019), in the form that model hubs read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tidemill.packages.manifest import Manifest

_SHOWN = 20


def model_card(manifest: Manifest) -> str:
    """The card as Markdown with a YAML head."""
    signature = manifest.signature
    day = datetime.fromtimestamp(manifest.created, UTC).strftime("%Y-%m-%d")
    inputs = "\n".join(_input(field) for field in signature["inputs"])
    metrics = "\n".join(f"| {_cell(name)} | {_cell(_number(value))} |" for name, value in _flat(manifest.metrics))
    lineage = "\n".join(f"- {name}: {_lineage(value)}" for name, value in manifest.lineage.items() if value)
    return f"""---
library_name: tidemill
pipeline_tag: {manifest.task}
tags: [tidemill]
---

# {manifest.id}

Trained for {manifest.task} by the recipe `{manifest.recipe}` on {day}. It predicts {_target(signature)}.

## Use

```python
import tidemill

model = tidemill.load("PATH_OF_THIS_FOLDER")
print(model.predict([{_example(signature)}]))
```

## Inputs

| name | type | shape | may be missing |
|---|---|---|---|
{inputs}

## Measured when it was made

| metric | value |
|---|---|
{metrics or "| - | - |"}

These figures chose the model. How it does on test data stands in its project's reports
(`tidemill report {manifest.id}`).

## Lineage

{lineage or "- none recorded"}

`manifest.json` (schema {manifest.schema}) holds the checksums, the state of the features and the spec of the answer. No
file of this package runs code when it is opened.
"""


def _target(signature: dict[str, Any]) -> str:
    if signature["kind"] == "regression":
        return f"the number `{signature['target']}`"
    labels = signature["labels"]
    shown = ", ".join(f"`{label}`" for label in labels[:_SHOWN])
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    many = "any number" if signature["kind"] == "multilabel" else "one"
    return f"`{signature['target']}`, {many} of {shown}{more}"


def _input(field: dict[str, Any]) -> str:
    shape = " × ".join(map(str, field["shape"])) if field["shape"] else ""
    return f"| {_cell(field['name'])} | {field['type']} | {shape} | {'yes' if field['optional'] else 'no'} |"


def _example(signature: dict[str, Any]) -> str:
    values = {"number": "0.0", "image": "...", "date": '"2026-01-31"'}
    text = '"..."'
    pairs = (f"{json.dumps(f['name'])}: {values.get(f['type'], text)}" for f in signature["inputs"])
    return "{" + ", ".join(pairs) + "}"


def _flat(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """``{"validation": {"accuracy": 0.9}}`` as ``[("validation accuracy", 0.9)]``."""
    nested = ((n, v if isinstance(v, dict) else {"": v}) for n, v in metrics.items())
    return [(f"{name} {inner}".strip(), value) for name, values in nested for inner, value in values.items()]


def _lineage(value: Any) -> str:
    return ", ".join(f"`{v}`" for v in value) if isinstance(value, list | tuple) else f"`{value}`"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
