"""The environment variables that Tidemill reads; an unknown ``TIDEMILL_…`` is a fault, not a surprise."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.config.faults import Fault, nearest, raise_faults

VARIABLES = {
    "TIDEMILL_PROJECT": "the project's folder, when the command does not say it with -C",
    "TIDEMILL_STORE": "database URL, instead of `store:` in tidemill.yaml",
    "TIDEMILL_THREADS": "threads of one prediction and of training, instead of what the machine suggests",
    "TIDEMILL_TOKEN": "what `tidemill.Client` shows at the door of a service",
}
_TESTS = ("TIDEMILL_TEST_DATA", "TIDEMILL_REQUIRE_DATA", "TIDEMILL_REQUIRE_BROWSER")
_OF_TESTS = "TIDEMILL_TEST_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment says; ``None`` where it says nothing."""

    project: str | None = None
    store: str | None = None
    threads: int | None = None


def read_environment(environ: Mapping[str, str] | None = None) -> Environment:
    """The checked variables of *environ* (``os.environ`` unless given).

    Raises:
        ConfigError: an unknown ``TIDEMILL_…`` variable or a value out of range; all of them at once.
    """
    environment, faults = check_environment(os.environ if environ is None else environ)
    raise_faults(faults, mend="Set or unset the variables named above.")
    return environment


def check_environment(environ: Mapping[str, str]) -> tuple[Environment, list[Fault]]:
    """As :func:`read_environment`, but with the faults as a list."""
    faults = []
    for name in sorted(environ):
        if name.startswith("TIDEMILL_") and name not in (*VARIABLES, *_TESTS) and not name.startswith(_OF_TESTS):
            hint = nearest(name, [*VARIABLES, *_TESTS])
            faults.append(Fault(f"unknown variable{f'; did you mean {hint}?' if hint else ''}", place=name))
    store = environ.get("TIDEMILL_STORE") or None
    if store is not None and not re.match(r"[a-z0-9+]+://", store):
        faults.append(
            Fault("must be a database URL such as sqlite:///FILE or postgresql://HOST/NAME", "TIDEMILL_STORE")
        )
    threads = environ.get("TIDEMILL_THREADS") or None
    if threads is not None and not (re.fullmatch(r"[0-9]{1,4}", threads) and int(threads) >= 1):
        faults.append(Fault(f"must be a whole number, at least 1, not {threads!r}", "TIDEMILL_THREADS"))
        threads = None
    return (
        Environment(
            project=environ.get("TIDEMILL_PROJECT") or None,
            store=store,
            threads=None if threads is None else int(threads),
        ),
        faults,
    )
