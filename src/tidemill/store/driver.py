"""The database's driver itself, for what SQLAlchemy would spend longer on than the database does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc


@contextlib.contextmanager
def driver(connection: sa.Connection) -> Iterator[Any]:
    """The driver's own connection, within the transaction of *connection*.

    Raises:
        sqlalchemy.exc.DBAPIError: the driver failed; its error in the form that all others have.
    """
    own: Any = connection.connection.driver_connection
    dialect: Any = connection.dialect
    try:
        yield own
    except dialect.dbapi.Error as error:
        lost = bool(getattr(own, "closed", False))
        raise sqlalchemy.exc.DBAPIError.instance(
            None, None, error, dialect.dbapi.Error, connection_invalidated=lost, dialect=dialect
        ) from error
