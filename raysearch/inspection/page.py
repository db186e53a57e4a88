"""One HTML page with everything in it: findings, mosaics of the classes, sizes, bands."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.colors import to_hex

from raysearch.data.decoding import THREADS
from raysearch.inspection import pictures
from raysearch.inspection.findings import relative
from raysearch.inspection.look import Look
from raysearch.inspection.report import Report
from raysearch.inspection.table import bytes_text, filled_splits, splits_text, verdict
from raysearch.records.files import write_text
from raysearch.records.style import class_colours
from raysearch.records.terminal.text import millions

PICTURED = 6  # Of one finding.
FINDINGS_PICTURED = 40
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Tile:
    """A picture with its caption; no picture where the file cannot be read."""

    picture: str | None
    caption: str


def write_page(report: Report, path: Path) -> Path:
    """Write the page in one step."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(bytes=bytes_text, short=_short, millions=millions)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write_text(path, template.render(**_values(report)))
    return path


def _values(report: Report) -> dict[str, Any]:
    """Return what the template shows."""
    study, sound, tiles = report.study, report.sound, _Tiles(report)
    offset = 1 if study.what.segments else 0
    images = [
        tiles.of(found.files[:PICTURED]) if number < FINDINGS_PICTURED else []
        for number, found in enumerate(report.findings)
    ]
    shares = report.shares
    return {
        "report": report,
        "study": study,
        "verdict": verdict(report),
        "level": report.findings[0].level if report.findings else "sound",
        "splits": splits_text(report),
        "findings": list(zip(report.findings, images, strict=True)),
        # Only masks have a background, whose colour is first.
        "colours": [to_hex(colour) for colour in class_colours(len(shares) + 1)[1 - offset :]],
        "columns": filled_splits(report),
        "counted": "pixels" if study.what.segments else "images",
        "images": max(1, len(sound)),
        "most_pixels": max([share.pixels for share in shares], default=1.0) or 1.0,
        "offset": offset,
        "mosaics": [
            (share, tiles.mosaic(number + offset)) for number, share in enumerate(shares[offset:])
        ],
        "scatter": pictures.size_scatter(study, sound) if len(report.sizes) > 1 else "",
        "histograms": pictures.band_picture(sound) if sound else "",
    }


class _Tiles:
    """Small pictures of samples."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.by_file = {relative(report.root, [x.sample])[0]: x for x in report.looks}

    def of(self, files: Sequence[str], only: int | None = None) -> list[Tile]:
        """Return tiles of image files, named as findings name them, with one class or all."""
        source, study = self.report.source, self.report.study
        known = [file for file in files if file in self.by_file]
        if source is None:
            return []

        def draw(file: str) -> Tile:
            return Tile(pictures.tile(source, study, self.by_file[file], only), file)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(draw, known))

    def mosaic(self, number: int) -> list[Tile]:
        """Return tiles of a class, from those with most of it to those with least."""
        looks = [look for look in self.report.sound if look.classes[number]]
        count = _each(len(self.report.shares))
        chosen = _spread(looks, number, count)
        return self.of(relative(self.report.root, [look.sample for look in chosen]), number)


def _each(classes: int) -> int:
    """How many pictures of each class keep the page at a few megabytes."""
    return 6 if classes <= 20 else 4 if classes <= 50 else 2


def _spread(looks: Sequence[Look], number: int, count: int) -> list[Look]:
    ordered = sorted(looks, key=lambda look: -look.classes[number] / max(1, look.pixels))
    if len(ordered) <= count:
        return ordered
    # Neither the very largest nor the very smallest tell what the class mostly looks like.
    return [
        ordered[at] for at in np.linspace(0, len(ordered) - 1, count + 2).round().astype(int)[1:-1]
    ]


def _short(value: float) -> str:
    return "-" if value != value else f"{value:.4g}"
