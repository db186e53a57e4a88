"""Dimensions of a search space: ranges and choices, some of them conditional."""

from collections.abc import Iterable, Mapping
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
        if self.step is not None and (self.step <= 0 or (self.whole and self.step % 1)):
            raise ValueError(f"step {self.step} leads nowhere; give one above 0, whole as the ends")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def examples(self) -> list[Any]:
        """Values to check a study with: `probes`, or every whole value of a short range."""
        if self.whole and self.high - self.low <= EVERY:
            return list(self._wholes())
        return self.probes()

    def probes(self) -> list[Any]:
        """The ends; of whole values the first two and the last.

        Where these are multiples of a number, all between them are.
        """
        if not self.whole:
            return self.ends()
        wholes = self._wholes()
        return list(dict.fromkeys([*wholes[:2], wholes[-1]]))

    def _wholes(self) -> range:
        return range(int(self.low), int(self.high) + 1, int(self.step or 1))

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

    def probes(self) -> list[Any]:
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


def parents_first(space: Mapping[str, Range | Choice]) -> list[str]:
    """Order keys so that each comes after those that its condition names.

    Raises:
        ValueError: conditions that go round in a circle.
    """
    ordered: list[str] = []
    while len(ordered) < len(space):
        ready = [k for k, d in space.items() if k not in ordered and d.when.keys() <= {*ordered}]
        if not ready:
            circle = ", ".join(key for key in space if key not in ordered)
            raise ValueError(f"the conditions (when) of {circle} go round in a circle; open it")
        ordered += ready
    return ordered


def completed(space: Mapping[str, Range | Choice], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with the first one of every other dimension whose condition holds."""
    found = dict(values)
    for key in parents_first(space):
        if key not in found and space[key].applies(found):
            found[key] = space[key].ends()[0]
    return found


def combinations(
    space: Mapping[str, Range | Choice], keys: Iterable[str], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return values with what a trial may have for these keys: the product of their probes.

    Keys that their conditions name are varied with them; a key of `values` keeps its value.
    """
    wanted = {*keys}
    for key in reversed(parents_first(space)):
        wanted |= space[key].when.keys() if key in wanted else set()
    found = [dict(values)]
    for key in parents_first(space):
        if key in wanted and key not in values:
            dimension = space[key]
            found = [
                one | chosen
                for one in found
                for chosen in (
                    [{key: v} for v in dimension.probes()] if dimension.applies(one) else [{}]
                )
            ]
    return found
