"""What a study and a recipe may say, checked when it is read.

A study has four parts that look different: `data`, `space` (searched), `fixed` (not searched), and
`budget` with `resources` (what the machine may spend). Every key of `space`, `fixed` and `start` is
a field of `Recipe`; `network.x` and `loss.x` reach one entry of the two mappings in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from raysearch.errors import ConfigError, closest

Scalar = bool | int | float | str | None


class Values(BaseModel):
    """Frozen values; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Task:
    """What is to be learned. Class 0 of a segmentation is the background."""

    kind: str
    bands: int
    classes: tuple[str, ...]
    ignore_index: int = 255

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class DataConfig(Values):
    """Where the images are, in which format, and how they are split."""

    format: str
    path: Path | None = None
    classes: tuple[str, ...] = Field(min_length=2)
    bands: int = Field(default=3, ge=1)
    ignore_index: int = Field(default=255, ge=0, le=255)
    options: dict[str, Any] = {}
    splits: Literal["honest", "official"] = "honest"
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    max_pixels: int = Field(default=100_000_000, gt=0)

    @field_validator("classes")
    @classmethod
    def _unique(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands twice; name every class once")
        return classes


def parse_loss(value: Any) -> Any:
    """Read "focal + 0.5*dice" as {"focal": 1.0, "dice": 0.5}; mappings pass as they are."""
    if not isinstance(value, str):
        return value
    weights: dict[str, float] = {}
    for term in value.split("+"):
        weight, _, name = term.rpartition("*")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError as error:
            raise ValueError(f"'{term.strip()}' is no weight*term, such as 0.5*dice") from error
    return weights


def _positive_loss(weights: dict[str, float]) -> dict[str, float]:
    if not any(weight > 0 for weight in weights.values()) or min(weights.values()) < 0:
        raise ValueError("give at least one term a weight above 0, and none below 0")
    return weights


class Recipe(Values):
    """Every value that one trial trains with. Any of them may be searched or fixed."""

    architecture: str
    network: dict[str, Scalar] = {}
    image_size: int | None = Field(default=None, ge=32)
    crop_size: int = Field(default=512, ge=32)
    augment_strength: float = Field(default=1.0, ge=0, le=2)
    elastic: bool = True
    batch_size: int = Field(default=8, ge=1)
    accumulation: int = Field(default=1, ge=1)
    loss: Annotated[dict[str, float], BeforeValidator(parse_loss)] = {"cross_entropy": 1.0}
    focal_alpha: float = Field(default=0.25, gt=0, lt=1)
    focal_gamma: float = Field(default=2.0, ge=0)
    tversky_alpha: float = Field(default=0.5, ge=0)
    tversky_beta: float = Field(default=0.5, ge=0)
    class_weights: Literal["none", "frequency"] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    boundary_weight: float = Field(default=0.3, ge=0)
    boundary_positive_weight: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: str = "cosine"
    warmup: float = Field(default=0.025, ge=0, lt=0.5)
    clip_norm: float | None = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    early_stopping: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    epochs: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)

    _loss = field_validator("loss")(_positive_loss)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulation "
                f"{self.accumulation}; batch_size is the effective batch"
            )
        return self

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from keys that may be dotted, such as loss.dice."""
        return cls.model_validate(dict(values))

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, values: Any) -> Any:
        return nest(values) if isinstance(values, Mapping) else values

    def flat(self) -> dict[str, Scalar]:
        """Return every value under a key of its own (loss.dice, network.width)."""
        flat: dict[str, Scalar] = {}
        for key, value in self.model_dump().items():
            if isinstance(value, dict):
                flat.update({f"{key}.{name}": entry for name, entry in value.items()})
            else:
                flat[key] = value
        return flat


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"loss.dice": 1} into {"loss": {"dice": 1}}; an entry goes into its whole mapping."""
    nested: dict[str, Any] = {}
    for key in sorted(values, key=lambda name: "." in name):
        outer, _, inner = key.partition(".")
        if not inner:
            nested[outer] = parse_loss(values[key]) if outer == "loss" else values[key]
        else:
            nested[outer] = {**(nested.get(outer) or {}), inner: values[key]}
    return nested


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

    def contains(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (not self.whole or value == int(value))


class Choice(_Conditional):
    """One of the values listed."""

    choices: list[Scalar] = Field(min_length=1)

    def ends(self) -> list[Any]:
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


class Objective(Values):
    """The validation metric that trials are ranked by."""

    metric: str = "miou"
    mode: Literal["max", "min"] = "max"

    def better(self, value: float, other: float | None) -> bool:
        """Whether value beats other; anything beats nothing, and NaN beats nothing at all."""
        if value != value:
            return False
        return other is None or (value > other if self.mode == "max" else value < other)


class Budget(Values):
    """What the search may spend. It ends with the first limit that is reached."""

    trials: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=100, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    first_rung: float = Field(default=0.25, gt=0, le=1)
    reduction_factor: float = Field(default=3, gt=1)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.minutes is None:
            raise ValueError("neither trials nor minutes is set, so the search would never end")
        return self


class Resources(Values):
    """What one trial reserves. Left out: one GPU where there is one, else one CPU core."""

    workers_per_trial: int = Field(default=1, ge=1)
    cpus_per_worker: int | None = Field(default=None, ge=1)
    gpus_per_worker: float | None = Field(default=None, ge=0)
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    loader_workers: int | None = Field(default=None, ge=0)
    launcher: Literal["auto", "train", "inline"] = "auto"
    cache: Path | None = None


ELSEWHERE = {"epochs": "budget.epochs", "seed": "--seed"}
SEARCHABLE = [name for name in Recipe.model_fields if name not in ELSEWHERE]


class Study(Values):
    """A study as resolved: one data set, its networks, and what to search."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    task: Literal["segmentation"] = "segmentation"
    profile: str | None = None
    data: DataConfig
    objective: Objective = Objective()
    networks: dict[str, dict[str, Scalar | list[Scalar]]] = Field(min_length=1)
    space: dict[str, Dimension] = {}
    fixed: dict[str, Any] = {}
    start: list[dict[str, Any]] = []
    budget: Budget
    resources: Resources = Resources()
    allow_random_weights: bool = False

    @property
    def what(self) -> Task:
        """The task that models, losses and metrics are built for."""
        data = self.data
        return Task(self.task, data.bands, data.classes, data.ignore_index)

    def recipe(self, values: Mapping[str, Any], seed: int = 0) -> Recipe:
        """Complete values (of the space, of a start point) with what is fixed.

        Raises:
            ConfigError: a value that no recipe may have.
        """
        whole = {**self.fixed, **values, "epochs": self.budget.epochs, "seed": seed}
        try:
            recipe = Recipe.from_flat(whole)
        except ValidationError as error:
            raise ConfigError("; ".join(explain(error, Recipe))) from error
        if recipe.architecture not in self.networks:
            raise ConfigError(
                f"architecture: no network is called '{recipe.architecture}'. "
                + closest(recipe.architecture, self.networks)
            )
        return recipe

    def network_spec(self, recipe: Recipe) -> dict[str, Any]:
        """Return the specification that a trial of this recipe builds its network from."""
        return {**self.networks[recipe.architecture], **recipe.network}

    def start_values(self) -> list[dict[str, Any]]:
        """Return the start points, with what the study or its profile fixes in their place."""
        fixed = flatten(self.fixed)
        return [
            {k: v for k, v in flatten(point).items() if k not in fixed and outer(k) not in fixed}
            for point in self.start
        ]

    @field_validator("space", "fixed", "start")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        for values in value if isinstance(value, list) else [value]:
            for key in values:
                if outer(key) not in Recipe.model_fields:
                    raise ValueError(f"unknown key '{key}'. {closest(key, SEARCHABLE)}")
                if key in ELSEWHERE:
                    raise ValueError(f"'{key}' is not set here; use {ELSEWHERE[key]}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = sorted(self.space.keys() & flatten(self.fixed).keys())
        if both:
            raise ValueError(f"{', '.join(both)} stands in space and in fixed; keep one of the two")
        for key, dimension in self.space.items():
            for parent in dimension.when:
                if parent not in self.space or parent == key:
                    raise ValueError(
                        f"space.{key}.when names '{parent}', which is not searched. "
                        + closest(parent, self.space.keys() - {key})
                    )
        self._check_recipes()
        return self

    def _check_recipes(self) -> None:
        middle = {key: dimension.ends()[0] for key, dimension in self.space.items()}
        if "architecture" not in {*middle, *self.fixed}:
            raise ValueError(
                "architecture is neither in space nor in fixed; "
                f"add `architecture: [{', '.join(self.networks)}]` to space"
            )
        for key, dimension in self.space.items():
            for end in dimension.ends():
                self._check_recipe("space and fixed", {**middle, key: end})
        for number, point in enumerate(self.start_values()):
            self._check_recipe(f"start[{number}]", {**middle, **point})

    def _check_recipe(self, where: str, values: Mapping[str, Any]) -> None:
        try:
            self.recipe(values)
        except ConfigError as error:
            raise ValueError(f"{where}: {error}") from error


def outer(key: str) -> str:
    """Return the field of a key: loss of loss.dice."""
    return key.partition(".")[0]


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with the network's entries under keys of their own."""
    flat = {key: value for key, value in values.items() if key != "network"}
    return flat | {f"network.{k}": v for k, v in (values.get("network") or {}).items()}
