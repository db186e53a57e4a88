"""The range of every band over the whole set."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.inspection.findings import Finding
from raysearch.inspection.look import Look


@dataclass(frozen=True)
class Band:
    """One band, counted from 1. `low` and `high` are exact, the others of a part of the pixels."""

    number: int
    low: float
    first: float
    mean: float
    last: float
    high: float
    std: float


def band_ranges(looks: Sequence[Look]) -> list[Band]:
    """Return each band's least, 1 %, mean, 99 % and greatest value. Takes sound looks."""
    if not looks:
        return []
    values = np.concatenate([look.values for look in looks]).astype(np.float64)
    lows, highs = (np.array([getattr(look, name) for look in looks]) for name in ("low", "high"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # A band without any data has no mean.
        first, last = np.nanpercentile(values, (1, 99), axis=0)
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        low, high = np.nanmin(lows, axis=0), np.nanmax(highs, axis=0)
    columns = (low, first, mean, last, high, std)
    return [
        Band(number + 1, *(float(column[number]) for column in columns))
        for number in range(values.shape[1])
    ]


def constant_bands(bands: Sequence[Band]) -> list[Finding]:
    """Return warnings about bands that say nothing."""
    findings = []
    for band in bands:
        if not band.low < band.high:
            what = "holds no data" if np.isnan(band.low) else f"is {band.low:g} in every image"
            words = f"band {band.number} {what}; leave it out with data.options, or mend the files"
            findings.append(Finding("warning", "band", words))
    return findings
