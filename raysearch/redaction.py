"""Credentials never reach a screen, a log, a record or a tracking server."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
NAMES = "password|passwd|secret|token|credential|signature|api[_-]?key|access[_-]?key"
SECRETS = (
    # user:password@ of any URI, up to the last @ before its path.
    (re.compile(r"(://)[^/\s'\"]+@"), rf"\1{HIDDEN}@"),
    # ?secret_key=..., AWS_SECRET_ACCESS_KEY=..., --password=..., &sig=...
    (re.compile(rf"(?i)((?:{NAMES})[\w.-]*=|[?&]sig=)[^\s&'\",;]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)(bearer )[\w.~+/=-]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
)


def redacted(text: str) -> str:
    """Return a text, such as a URI, a command or an error, with its credentials hidden."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


def all_redacted(value: Any) -> Any:
    """Return a value of JSON with the credentials in all its texts hidden."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: all_redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [all_redacted(inner) for inner in value]
    return value
