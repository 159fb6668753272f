"""The history of the tables: one revision a file in ``versions/``, applied when a store is opened.

alembic is imported only when there is something to apply, so that opening a current store stays fast.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from tidemill.errors import StoreError
from tidemill.store.database import Database

#: The newest revision in ``versions/``.
HEAD = "0002"


def revision(database: Database) -> str | None:
    """Which revision the database stands at; ``None`` when it holds no tables of ours."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def upgrade(database: Database) -> None:
    """Apply every revision that is missing, in one transaction; nothing happens when none is.

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
            fn=lambda found, _context: script._upgrade_revs(HEAD, found),  # noqa: SLF001 - as alembic's own command does
        )
        try:
            environment.run_migrations()
        except CommandError as error:
            raise StoreError(
                f"the store was written by a newer Tidemill ({error})",
                where=database.where,
                mend="Update Tidemill, then open it again.",
            ) from error
