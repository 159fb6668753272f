"""What ``import tidemill`` offers, by name; a change here is a change of the public interface."""

from __future__ import annotations

import tidemill


def test_the_public_names() -> None:
    assert sorted(tidemill.__all__) == [
        "AsyncClient",
        "Client",
        "Predictor",
        "Project",
        "Task",
        "__version__",
        "errors",
        "init",
        "load",
        "open",
        "recipe",
        "restore",
    ]


def test_every_public_name_resolves_and_has_a_docstring() -> None:
    for name in tidemill.__all__:
        assert getattr(tidemill, name)
        assert name == "__version__" or getattr(tidemill, name).__doc__
