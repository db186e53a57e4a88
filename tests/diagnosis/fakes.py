"""Nodes that answer as they are told to."""

from collections.abc import Callable, Mapping
from typing import Any

from raysearch.diagnosis.result import Everywhere
from raysearch.errors import RunError

Change = Callable[[tuple[Any, ...]], tuple[Any, ...]]


def everywhere(nodes: Mapping[str, Change]) -> Everywhere:
    """Run a function once for each node, with its arguments as that node sees them."""

    def ask(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        return {node: _answer(function, arguments, change) for node, change in nodes.items()}

    return ask


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], change: Change) -> Any:
    try:
        return function(*change(arguments))
    except Exception as error:
        return RunError(str(error))


def same(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return arguments


def silent(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    raise RunError("no answer within 90 s")


def answers(told: Mapping[str, Any]) -> Everywhere:
    """Nodes that answer this, whatever they are asked."""
    return lambda function, *arguments: dict(told)
