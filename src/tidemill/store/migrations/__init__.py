"""The history of the tables: one revision a file in ``versions/``, applied when a store is opened.

alembic is imported only when there is something to apply, so that opening a current store stays fast.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from tidemill.errors import StoreError
from tidemill.store.database import Database

#: The newest revision in ``versions/``.
HEAD = "0011"


def revision(database: Database) -> str | None:
    """Which revision the database stands at; ``None`` when it holds no tables of ours."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def upgrade(database: Database, target: str | None = None) -> None:
    """Apply every revision that is missing, in one transaction; nothing happens when none is.

    Args:
        database: whose tables.
        target: the last revision to apply; the newest unless given.

    Raises:
        StoreError: the database stands at a revision that this version does not know.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    script = ScriptDirectory(str(Path(__file__).parent))
    with database.transaction() as connection, EnvironmentContext(Config(), script) as environment:
        environment.configure(
            connection=connection,
            transactional_ddl=True,
            fn=lambda found, _context: script._upgrade_revs(target or HEAD, found),  # noqa: SLF001 - as alembic's own command does
        )
        try:
            environment.run_migrations()
        except CommandError as error:
            raise _unknown(environment.get_context().get_current_revision(), database.where) from error


def _unknown(found: str | tuple[str, ...] | None, where: str) -> StoreError:
    if re.fullmatch(r"\d{4}", str(found)):
        what, mend = (
            f"the store was written by a newer Tidemill (revision {found})",
            "Update Tidemill, then open it again.",
        )
    else:
        what = f"the database holds the tables of another program (revision {found})"
        mend = "Name a database or a schema of its own in `store:`."
    return StoreError(what, where=where, mend=mend)
