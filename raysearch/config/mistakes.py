"""What pydantic found wrong, said as what, where and the repair."""

from typing import Any, TypeGuard

from pydantic import BaseModel, ValidationError

from raysearch.config.space import Choice, Range
from raysearch.config.values import Scalar
from raysearch.errors import closest


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one sentence for each mistake: key, value, and what would be right."""
    sentences = (_explain_one(detail, model) for detail in error.errors())
    return list(dict.fromkeys(sentences))


def _explain_one(detail: Any, model: type[BaseModel]) -> str:
    loc = [str(part) for part in detail["loc"] if part not in ("range", "choice", "int", "float")]
    key = ".".join(loc)
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'. {closest(loc[-1], _fields_at(model, loc[:-1]))}"
    if detail["type"] == "missing":
        return f"{key} is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error" and not isinstance(detail["input"], Scalar):
        return f"{key}: {message}" if key else message
    if detail["type"] in ("int_parsing", "float_parsing"):
        message = "write a number"
    return f"{key}: {detail['input']!r}: {message}"


def _fields_at(model: type[BaseModel], loc: list[str]) -> list[str]:
    if not loc:
        return list(model.model_fields)
    if loc[0] == "space":
        return [*Range.model_fields, *Choice.model_fields]
    inner = model.model_fields[loc[0]].annotation if loc[0] in model.model_fields else None
    return _fields_at(inner, loc[1:]) if _is_model(inner) else []


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
