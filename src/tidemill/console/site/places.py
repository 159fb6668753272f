"""Every page of the console, and everything that can be done there."""

from __future__ import annotations

from tidemill.console.site import data, feedback, files, loop, models, samples, signing, tracing, trying
from tidemill.console.site.visit import Place

ALL: tuple[Place, ...] = (
    *files.PLACES,
    *signing.PLACES,
    *loop.PLACES,
    *samples.PLACES,
    *data.PLACES,
    *models.PLACES,
    *trying.PLACES,
    *feedback.PLACES,
    *tracing.PLACES,
)
