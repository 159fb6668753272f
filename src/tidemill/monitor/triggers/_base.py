"""What a trigger is: it looks, and says what it waits for or why something should be done now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from tidemill.records import JSON

Action = Literal["cycle", "rollback"]
"""What is done when a trigger fires: a cycle, or the deployment before this one is put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found.

    Attributes:
        waiting: what the trigger waits for, or what keeps it from firing, in words.
        reason: why it fires, in words; ``None`` when it does not.
        action: what is to be done when it fires.
        found: what was measured, for people and for metrics.
        memory: what the next look is to remember. Of a look that fires it counts once the reason was acted upon, so
            that nothing is forgotten when the process dies in between.
    """

    waiting: str
    reason: str | None = None
    action: Action = "cycle"
    found: JSON = field(default_factory=dict)
    memory: JSON = field(default_factory=dict)


class Trigger(Protocol):
    """One kind of reason to act, in one file of this folder.

    Attributes:
        name: under which it is shown and remembered.
        heavy: a look takes long enough to hold up answers, so it belongs in a process of its own.
        fires: else it only measures.
    """

    name: ClassVar[str]
    heavy: ClassVar[bool]
    fires: bool

    def look(self, memory: JSON, now: float) -> Look:
        """Look once.

        Args:
            memory: what the look before left; empty at first.
            now: UTC seconds. It may be earlier than at the look before, since clocks are set.

        Raises:
            TidemillError: it cannot look: the database is away, or a file is missing.
        """
