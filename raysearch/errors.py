"""Every error that raysearch raises on purpose.

RaysearchError
├── ConfigError    a study, a recipe or a command line that cannot be used
├── DataError      images, masks or lists that cannot be used
├── WeightsError   pretrained weights that cannot be fetched or loaded
├── RunError       a run folder that cannot be created, opened or resumed
└── TrialError     a trial that cannot go on (not finite, wrong live values)
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RaysearchError(Exception):
    """Base of the tree. The message says what is wrong, where, and how to repair it."""


class ConfigError(RaysearchError):
    """A study, a recipe or a command line cannot be used."""


class DataError(RaysearchError):
    """Images, masks or lists cannot be used."""


class WeightsError(RaysearchError):
    """Pretrained weights cannot be fetched or loaded."""


class RunError(RaysearchError):
    """A run folder cannot be created, opened or resumed."""


class TrialError(RaysearchError):
    """A trial cannot go on."""


def closest(name: str, valid: Iterable[str]) -> str:
    """Return the sentence that answers an unknown name: the nearest match and all valid names."""
    names = sorted(valid)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Valid: {', '.join(names)}."


def first_line(error: BaseException) -> str:
    """Return an error's words without what follows on further lines; its type where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
