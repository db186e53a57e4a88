"""Files that cannot be used, and files that can but hardly should."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from raysearch.config import Study
from raysearch.inspection.findings import Finding, relative, some
from raysearch.inspection.look import Look
from raysearch.inspection.outside import false_ending

LEAST_SIDE = 8
FAR_LARGER = 25
RARE = 0.05


def damaged(root: Path, looks: Iterable[Look]) -> list[Finding]:
    """Return an error for each sample that cannot be used, in its reader's words."""
    return [
        Finding("error", "damaged", look.fault, relative(root, [look.sample]))
        for look in looks
        if look.fault is not None
    ]


def absurd(root: Path, looks: Sequence[Look], study: Study) -> list[Finding]:
    """Return warnings about files that can be read and make no sense. Takes sound looks."""
    usual = float(np.median([look.pixels for look in looks])) if looks else 0
    checks: tuple[tuple[str, str, Callable[[Look], bool]], ...] = (
        ("tiny", f"with a side below {LEAST_SIDE} pixels", _is_tiny),
        ("huge", f"with over {FAR_LARGER} times the pixels of the median image",
         lambda look: look.pixels > FAR_LARGER * usual),
        ("no data", "without any data", lambda look: look.no_data == 1),
        ("no data", "with a band without any data",
         lambda look: look.no_data < 1 and bool(np.isnan(look.low).any())),
        ("blank", "with one colour all over", _is_blank),
        ("ending", "with the ending of another format than their own", _is_misnamed),
        ("unlabelled", "with a mask in which every pixel is ignored",
         lambda look: study.what.segments and look.no_data < 1 and not look.classes.any()),
    )  # fmt: skip
    findings = [
        _about(root, kind, what, [x for x in looks if test(x)]) for kind, what, test in checks
    ]
    return [found for found in [*findings, _background(root, looks, study)] if found]


def _background(root: Path, looks: Sequence[Look], study: Study) -> Finding | None:
    """Masks of background alone are said where they are few: elsewhere they are the subject's."""
    if not study.what.segments:
        return None
    empty = [look for look in looks if look.classes[0] and not look.classes[1:].any()]
    if len(empty) > RARE * len(looks):
        return None
    return _about(root, "background", "with a mask of background alone, unlike the rest", empty)


def _about(root: Path, kind: str, what: str, looks: Sequence[Look]) -> Finding | None:
    if not looks:
        return None
    files = relative(root, [look.sample for look in looks])
    count = "1 image" if len(files) == 1 else f"{len(files)} images"
    words = f"{count} {what}: {some(files)}; look at what it is, and repair it or take it out"
    return Finding("warning", kind, words, files)


def _is_tiny(look: Look) -> bool:
    return min(look.shape) < LEAST_SIDE


def _is_blank(look: Look) -> bool:
    return look.no_data < 1 and look.pixels > 1 and look.constant


def _is_misnamed(look: Look) -> bool:
    return false_ending(look.sample.image, look.outside) is not None
