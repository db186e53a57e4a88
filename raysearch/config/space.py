"""Dimensions of a search space: ranges and choices, some of them conditional."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from raysearch.config.values import Scalar, Values

EVERY = 100


class _Conditional(Values):
    """`when: {architecture: [unet]}`: the key exists only where another has one of these values."""

    when: dict[str, Scalar | list[Scalar]] = {}

    def applies(self, chosen: Mapping[str, Any]) -> bool:
        return all(
            key in chosen and chosen[key] in (value if isinstance(value, list) else [value])
            for key, value in self.when.items()
        )


class Range(_Conditional):
    """Numbers from low to high, both included; whole ones where both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; swap them")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low}")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step; leave one of the two out")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def examples(self) -> list[Any]:
        """Values to check a study with: both ends, or every whole value of a short range."""
        if self.whole and self.high - self.low <= EVERY:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        return self.ends()

    def contains(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (not self.whole or value == int(value))


class Choice(_Conditional):
    """One of the values listed."""

    choices: list[Scalar] = Field(min_length=1)

    def ends(self) -> list[Any]:
        return list(self.choices)

    def examples(self) -> list[Any]:
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        return value in self.choices


def _kind_of_dimension(value: Any) -> str:
    named = isinstance(value, Choice) or (isinstance(value, Mapping) and "choices" in value)
    return "choice" if named or isinstance(value, list) else "range"


Dimension = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[
        Choice,
        BeforeValidator(lambda v: {"choices": v} if isinstance(v, list) else v),
        Tag("choice"),
    ],
    Discriminator(_kind_of_dimension),
]
