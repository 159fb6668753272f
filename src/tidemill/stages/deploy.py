"""Deploy: put the gate's decision into force, or record why nothing changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tidemill.errors import TidemillError
from tidemill.records import Decision, Deployment, Generation, new_id
from tidemill.store import Store


def deploy(
    store: Store, decision: Decision, generation: Generation, *, spends: float, warm_up: Callable[[], None]
) -> Decision:
    """Commit the decision, the α it cost and, when the challenger won, its deployment, in one transaction.

    Args:
        warm_up: opens the challenger's package and answers with it once; when that fails the challenger is refused,
            whatever its scores.

    Returns:
        The decision as it was stored.
    """
    if decision.outcome == "promoted":
        try:
            warm_up()
        except TidemillError as error:
            decision = dataclasses.replace(
                decision, outcome="refused", reason=f"the challenger does not start, so it cannot serve: {error}"
            )
    with store.transaction():
        store.update(dataclasses.replace(generation, spent=generation.spent + spends))
        if decision.outcome == "promoted":
            deployment = Deployment(
                id=new_id(Deployment.prefix),
                name="default",
                model_id=decision.challenger_id,
                action="promote",
                reason=decision.reason,
                decision_id=decision.id,
            )
            store.deploy(deployment, decision)
        else:
            store.insert(decision)
    return decision
