"""Declarative feature steps, one a file: fitted on training rows, the same code in training and serving."""

from __future__ import annotations

from tidemill.features._base import FeatureInfo, FeatureStep

__all__ = ["FeatureInfo", "FeatureStep"]
