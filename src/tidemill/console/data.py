"""The data page: what is in a dataset version, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill.console import distributions
from tidemill.console.page import page_text, render


def render_data(content: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of what :meth:`tidemill.api.Project.data` returns.

    Returns:
        The path.

    Raises:
        StoreError: the file cannot be written.
    """
    return render("data.html", path, data=content, distributions=distributions)


def data_page(content: Mapping[str, Any]) -> str:
    """The page as text; see :func:`render_data`."""
    return page_text("data.html", data=content, distributions=distributions)
