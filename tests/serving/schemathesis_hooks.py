"""What Schemathesis has to be told of this API: how lines of JSON are sent."""

from __future__ import annotations

from typing import Any

import schemathesis

LINES = "application/x-ndjson"


@schemathesis.serializer(LINES)
def lines(_context: schemathesis.SerializationContext, value: Any) -> Any:
    """A text as it is."""
    return {"data": value.encode() if isinstance(value, str) else value}


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Whatever is sent as lines is a text: there is none that is of the wrong type."""
    return case.media_type != LINES or isinstance(case.body, str | bytes)
