"""``tidemill``: where the program begins.

Nothing is imported here before :func:`main` runs, so that Ctrl-C in the tenth of a second in which the commands are
being imported ends in one line, as it does later.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; see :func:`tidemill.cli.program.run`."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        from tidemill.cli.program import run

        code = run(given)
    except KeyboardInterrupt:  # before or after what the command itself does
        from tidemill.cli.failures import EXIT_STOPPED, say_stopped
        from tidemill.cli.session import Session

        say_stopped(Session(json="--json" in given), "stopped", failed=True)
        code = EXIT_STOPPED
    sys.exit(code)
