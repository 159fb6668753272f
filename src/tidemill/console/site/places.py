"""Every page of the console, and everything that can be done there."""

from __future__ import annotations

from tidemill.console.site import data, feedback, files, labelling, loop, models, samples, signing, tracing, trying
from tidemill.console.site.visit import Place

ALL: tuple[Place, ...] = (
    *files.PLACES,
    *signing.PLACES,
    *loop.PLACES,
    *samples.PLACES,
    *data.PLACES,
    *labelling.PLACES,
    *models.PLACES,
    *trying.PLACES,
    *feedback.PLACES,
    *tracing.PLACES,
)
