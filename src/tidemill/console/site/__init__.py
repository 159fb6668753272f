"""The console: server-rendered pages for the whole loop, mounted on the service by whoever starts it."""

from tidemill.console.site.app import Site

__all__ = ["Site"]
