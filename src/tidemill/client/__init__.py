"""A client of the service, for programs that have nothing of the project at hand."""

from __future__ import annotations

from tidemill.client.answers import Answer, Receipt
from tidemill.client.asynchronous import AsyncClient
from tidemill.client.retrying import Retries
from tidemill.client.synchronous import Client

__all__ = ["Answer", "AsyncClient", "Client", "Receipt", "Retries"]
