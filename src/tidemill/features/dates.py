"""``dates``: points in time as their distance and their place in the year, the week and the day."""

# ruff: noqa: D102 - the base class says what each method does

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tidemill.data.arrays import Columns
from tidemill.data.schema import FieldType
from tidemill.features._base import FeatureInfo, FeatureStep, as_float32

_DAY = 86_400.0
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0  # years 1 to 9999


class Dates(FeatureStep):
    """float64 UTC seconds ``[n]`` to float32 ``x``, eight numbers a column, or four when ``raw``.

    The eight are: days from the training rows' mean over their deviation; sine and cosine of the place in the year, in
    the week and in the day, so that Sunday night lies beside Monday morning; and 1 where the date is missing (the
    others are 0 then). ``raw`` gives trees what they can cut: days since 1970, month (1-12), weekday (0 is Monday) and
    hour, NaN where missing.
    """

    name: ClassVar[str] = "dates"
    handles: ClassVar[tuple[FieldType, ...]] = ("date",)

    def __init__(self, columns: list[str], *, raw: bool = False) -> None:
        super().__init__(columns)
        self._raw = raw
        self._count = np.zeros(len(columns))
        self._sum = np.zeros(len(columns))
        self._squares = np.zeros(len(columns))
        self._mean = np.zeros(len(columns))
        self._std = np.ones(len(columns))

    def _seconds(self, columns: Columns) -> npt.NDArray[np.float64]:
        values = np.stack([np.asarray(columns[name], np.float64) for name in self.columns], axis=1)
        return np.clip(np.where(np.isfinite(values), values, np.nan), _FIRST, _LAST)

    def observe(self, chunk: Columns) -> None:
        days = self._seconds(chunk) / _DAY
        self._count += (~np.isnan(days)).sum(axis=0)
        self._sum += np.nansum(days, axis=0)
        self._squares += np.nansum(np.square(days), axis=0)

    def finish(self) -> None:
        count = np.maximum(self._count, 1)
        self._mean = self._sum / count
        variance = self._squares / count - np.square(self._mean)
        self._std = np.where(variance > 1e-6, np.sqrt(np.maximum(variance, 0)), 1.0)

    def transform(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        seconds = self._seconds(columns)
        missing = np.isnan(seconds)
        known = np.where(missing, 0.0, seconds)
        days = known / _DAY
        moment = np.floor(known).astype("datetime64[s]")
        weekday = np.floor(days + 3) % 7  # 1970-01-01 was a Thursday
        hour = known % _DAY / 3600  # from seconds: as a part of a day thirteen o'clock may round to 12.99
        if self._raw:
            month = moment.astype("datetime64[M]").astype(np.int64) % 12 + 1
            parts = np.stack([days, month, weekday, np.floor(hour)], axis=2)
            parts[missing] = np.nan
        else:
            year = (moment - moment.astype("datetime64[Y]")).astype("timedelta64[s]").astype(np.float64) / (
                365.2425 * _DAY
            )
            turns = [year, (weekday + hour / 24) / 7, hour / 24]
            waves = [wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]
            parts = np.stack([(days - self._mean) / self._std, *waves], axis=2)
            parts[missing] = 0
            parts = np.concatenate([parts, missing[:, :, None]], axis=2)
        return {"x": as_float32(parts.reshape(len(parts), -1))}

    def info(self) -> dict[str, FeatureInfo]:
        return {"x": FeatureInfo("float32", ((4 if self._raw else 8) * len(self.columns),))}

    def state(self) -> dict[str, Any]:
        return {} if self._raw else {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        if not self._raw:
            self._mean, self._std = np.array(state["mean"], np.float64), np.array(state["std"], np.float64)
