"""A study: one data set, its networks, what is searched, what is not, and what it may spend."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from raysearch.config.mistakes import explain
from raysearch.config.recipe import Recipe, flatten, outer
from raysearch.config.space import Dimension, Range, combinations, completed, parents_first
from raysearch.config.task import Kind, Task
from raysearch.config.values import Scalar, Values
from raysearch.errors import ConfigError, closest

LESS_IS_BETTER = ("val_loss", "loss", "gap", "accuracy_gap")
# They are measured, but more of them is neither better nor worse.
NO_MERIT = ("threshold", "max_probability")


class DataConfig(Values):
    """Where the images are, in which format, and how they are split.

    classes: empty takes those that the reader finds in the folder.
    cache_side: classified images whose shorter side is longer are stored reduced to it.
    """

    format: str
    path: Path | None = None
    classes: tuple[str, ...] = ()
    bands: int = Field(default=3, ge=1)
    ignore_index: int = Field(default=255, ge=0, le=255)
    options: dict[str, Any] = {}
    splits: Literal["honest", "official"] = "honest"
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    max_pixels: int = Field(default=100_000_000, gt=0)
    cache_side: int | None = Field(default=None, ge=32)

    @field_validator("classes", mode="before")
    @classmethod
    def _found_later(cls, classes: Any) -> Any:
        return () if classes is None else classes

    @field_validator("classes")
    @classmethod
    def _unique(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(classes) == 1:
            raise ValueError(f"'{classes[0]}' alone is nothing to tell apart; name two or more")
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands twice; name every class once")
        return classes


def mode_of(metric: str) -> Literal["max", "min"]:
    """Return which end of a metric is the better one."""
    return "min" if metric in LESS_IS_BETTER else "max"


class Goal(Values):
    """What is good enough, and a stretch beyond it: below it where less is better."""

    metric: str
    target: float
    stretch: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stretch is not None and not self._good(self.stretch, self.target):
            wrong = "above" if mode_of(self.metric) == "min" else "below"
            raise ValueError(f"stretch {self.stretch} is {wrong} target {self.target}; swap them")
        return self

    def _good(self, value: float, level: float) -> bool:
        return value <= level if mode_of(self.metric) == "min" else value >= level

    def reached(self, metrics: Mapping[str, Any]) -> str:
        """Return "target" or "stretch" where an epoch's metrics reach it, and "" elsewhere."""
        value = metrics.get(self.metric, float("nan"))
        if self.stretch is not None and self._good(value, self.stretch):
            return "stretch"
        return "target" if self._good(value, self.target) else ""


class Objective(Values):
    """The validation metric that trials are ranked by, and what is expected of it.

    mode: min where less of the metric is better, else max; it follows from the metric.
    expected: the range that each class's metric (IoU, or accuracy) is expected in.
    """

    metric: str = "miou"
    mode: Literal["max", "min"] = "max"
    goal: Goal | None = None
    expected: dict[str, tuple[float, float]] = {}

    @model_validator(mode="before")
    @classmethod
    def _with_mode(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("mode") is None:
            return {**raw, "mode": mode_of(str(raw.get("metric", "miou")))}
        return raw

    @model_validator(mode="after")
    def _right_way(self) -> Self:
        right = mode_of(self.metric)
        if self.mode != right:
            better = "less" if right == "min" else "more"
            raise ValueError(
                f"mode {self.mode} would call the worst {self.metric} the best, of which {better} "
                f"is better; set mode: {right}, or leave it out"
            )
        return self

    def better(self, value: float, other: float | None) -> bool:
        """Whether value beats other; anything beats nothing, and NaN beats nothing at all."""
        if value != value:
            return False
        return other is None or (value > other if self.mode == "max" else value < other)


class Budget(Values):
    """What the search may spend. It ends with the first limit that is reached.

    stop_at_goal: it also ends when a trial reaches the target of objective.goal.
    """

    trials: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=100, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    first_rung: float = Field(default=0.25, gt=0, le=1)
    reduction_factor: float = Field(default=3, gt=1)
    stop_at_goal: bool = True

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.minutes is None:
            raise ValueError("neither trials nor minutes is set, so the search would never end")
        return self


class Resources(Values):
    """What one trial reserves. Left out: one GPU where there is one, else one CPU core.

    storage: URI of a folder or object store that run folders are copied to; without it, every node
        must see the output folder.
    disk_gb: how much the checkpoints of a search may take.
    """

    workers_per_trial: int = Field(default=1, ge=1)
    cpus_per_worker: int | None = Field(default=None, ge=1)
    gpus_per_worker: float | None = Field(default=None, ge=0)
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    loader_workers: int | None = Field(default=None, ge=0)
    launcher: Literal["auto", "train", "inline"] = "auto"
    cache: Path | None = None
    storage: str | None = None
    disk_gb: float | None = Field(default=None, gt=0)


# Of a mask's 256 numbers one is the ignore index.
MOST_CLASSES = 255
ELSEWHERE = {"epochs": "budget.epochs", "seed": "--seed"}
SEARCHABLE = [name for name in Recipe.model_fields if name not in ELSEWHERE]
# What some fields of a recipe change nothing without; the others act in every study.
PIXELS, TEACHERS = "pixels with labels (task: segmentation)", "teachers (--teacher RUN)"
NEEDS = {
    "crop_size": PIXELS,
    "elastic": PIXELS,
    "quarter_turns": PIXELS,
    "tversky_alpha": PIXELS,
    "tversky_beta": PIXELS,
    "pixel_weights": PIXELS,
    "boundary_weight": PIXELS,
    "boundary_positive_weight": PIXELS,
    "distill_weight": TEACHERS,
    "distill_temperature": TEACHERS,
}
# Keys whose values must go together, so that all their combinations are looked at.
TOGETHER = (
    ("architecture", "image_size"),
    ("batch_size", "accumulation"),
    ("compile", "gradient_checkpointing"),
)
STRIDE = 32  # Networks halve a picture five times.
EVALUATED = 0.875  # Validation makes the shorter side of a classified image image_size / 0.875.


class Study(Values):
    """A study as resolved: one data set, its networks, and what to search.

    sample: sizes of the generated sample data, such as {train: 100, val: 40}.
    init_from: a trained trial's folder for each architecture that begins with its weights.
    teachers: trained trials' folders; a trial learns from the mean of their probabilities.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
    task: Kind = "segmentation"
    profile: str | None = None
    data: DataConfig
    objective: Objective = Objective()
    networks: dict[str, dict[str, Scalar | list[Scalar]]] = Field(min_length=1)
    space: dict[str, Dimension] = {}
    fixed: dict[str, Any] = {}
    start: list[dict[str, Any]] = []
    budget: Budget
    resources: Resources = Resources()
    sample: dict[str, int] = {}
    init_from: dict[str, Path] = {}
    teachers: list[Path] = []
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
        if self.task == "classification" and recipe.image_size is None:
            raise ConfigError("image_size: classified images need one size; set image_size: 224")
        if self.task == "segmentation" and recipe.crop_size % STRIDE:
            below = recipe.crop_size // STRIDE * STRIDE
            raise ConfigError(
                f"crop_size: {recipe.crop_size} is not a multiple of {STRIDE}, and networks halve "
                f"crops five times; set it to {below} or {below + STRIDE}"
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

    @model_validator(mode="before")
    @classmethod
    def _named_objective(cls, raw: Any) -> Any:
        """An objective without a metric takes the task's own."""
        if not isinstance(raw, dict):
            return raw
        objective = raw.get("objective") or {}
        if isinstance(objective, Objective):
            objective = dict(objective)
        if isinstance(objective, dict) and "metric" not in objective:
            segments = raw.get("task", "segmentation") == "segmentation"
            return {**raw, "objective": {**objective, "metric": "miou" if segments else "top1"}}
        return raw

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
        parents_first(self.space)
        self._check_ids()
        self._check_objective()
        self._check_sources()
        self._check_numbers()
        self._check_recipes()
        self._check_cache_side()
        for sentence in self.idle(PIXELS):
            raise ValueError(sentence)
        return self

    def _check_ids(self) -> None:
        count, ignored = len(self.data.classes), self.data.ignore_index
        if self.task != "segmentation":
            return
        if count > MOST_CLASSES:
            raise ValueError(
                f"data.classes: {count} classes, but masks tell {MOST_CLASSES} apart; join some"
            )
        if ignored < count:
            raise ValueError(
                f"data.ignore_index: {ignored} is the id of '{self.data.classes[ignored]}', whose "
                f"pixels would not count; set it to 255, or to any number from {count} on"
            )

    def _check_objective(self) -> None:
        named, known = self.objective.metric, self.what.metrics
        goal = self.objective.goal
        for key, metric in (("metric", named), *([("goal.metric", goal.metric)] if goal else [])):
            later = not self.data.classes and metric.startswith(f"{self.what.by_class}/")
            if metric in NO_MERIT:
                raise ValueError(
                    f"objective.{key}: '{metric}' does not say how good a trial is. "
                    + closest(metric, {*known} - {*NO_MERIT})
                )
            if metric not in known and not later:
                raise ValueError(
                    f"objective.{key}: '{metric}' is not measured. {closest(metric, known)}"
                )
        for name in self.objective.expected:
            if self.data.classes and name not in self.data.classes:
                raise ValueError(
                    f"objective.expected: no class is called '{name}'. "
                    + closest(name, self.data.classes)
                )

    def _check_sources(self) -> None:
        for name in self.init_from:
            if name not in self.networks:
                raise ValueError(
                    f"init_from: no network is called '{name}'. {closest(name, self.networks)}"
                )

    def idle(self, *needs: str) -> list[str]:
        """Say which searched or fixed values change nothing, for want of PIXELS or TEACHERS.

        A fixed value that every recipe has anyway is left alone: `single` fixes all of them.
        """
        lacking = {PIXELS: self.task != "segmentation", TEACHERS: not self.teachers}
        named = [(f"space.{key}", key) for key in self.space]
        named += [
            (f"fixed.{key}", key)
            for key, value in self.fixed.items()
            if key in NEEDS and value != Recipe.model_fields[key].default
        ]
        return [
            f"{where} changes nothing in this study: it needs {NEEDS[key]}; take it out"
            for where, key in named
            if NEEDS.get(key) in needs and lacking[NEEDS[key]]
        ]

    def examples(self) -> list[dict[str, Any]]:
        """Values of trials that the search may try: each dimension's in turn, and start points.

        Values of `network.*` stand in all of them; their `when` says for which architectures.
        """
        points = [{}, *self.start_values()]
        return [values for point in points for values in self._examples(point)]

    def _examples(self, point: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Values of trials that a start point may become, or any trial where it is empty."""
        network = {k: d.ends()[0] for k, d in self.space.items() if outer(k) == "network"}
        first = completed(self.space, self._given(point))
        together = {key for keys in TOGETHER for key in keys}
        alone = [
            {**first, key: value}
            for key, dimension in self.space.items()
            if not point and key not in together
            for value in dimension.examples()
        ]
        varied = [values for keys in TOGETHER for values in self._combined(keys, point)]
        return [network | values for values in [first, *alone, *varied]]

    def combined(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """Values of trials: every combination of some keys, and of those with each start point."""
        points = [{}, *self.start_values()]
        return [values for point in points for values in self._combined(keys, point)]

    def _combined(self, keys: Iterable[str], point: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = combinations(self.space, keys, self._given(point))
        return [completed(self.space, values) for values in found]

    def _given(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What the values of a trial begin with: conditions look at it."""
        return {k: v for k, v in self.fixed.items() if k == "architecture"} | dict(point)

    def _check_numbers(self) -> None:
        for key, dimension in self.space.items():
            field = Recipe.model_fields.get(key)
            wants = field is not None and field.annotation in (int, int | None)
            if wants and isinstance(dimension, Range) and not dimension.whole:
                raise ValueError(
                    f"space.{key}: {dimension.low} to {dimension.high} holds fractions; write both "
                    "ends as whole numbers, without a point"
                )

    def _check_cache_side(self) -> None:
        side = self.data.cache_side
        if side is None:
            return
        if self.task == "segmentation":
            raise ValueError(
                "data.cache_side: pictures whose pixels are labelled are stored as they are; take "
                "it out"
            )
        largest = max(self.recipe(values).image_size or 0 for values in self.examples())
        needed = int(largest / EVALUATED)
        if side < needed:
            raise ValueError(
                f"data.cache_side: {side} is less than the {needed} pixels that image_size "
                f"{largest} is cut from; set it to {needed}"
            )

    def _check_recipes(self) -> None:
        if "architecture" not in {*self.space, *self.fixed}:
            raise ValueError(
                "architecture is neither in space nor in fixed; "
                f"add `architecture: [{', '.join(self.networks)}]` to space"
            )
        for values in self._examples({}):
            self._check_recipe("space and fixed", values)
        for number, point in enumerate(self.start_values()):
            for values in self._examples(point):
                self._check_recipe(f"start[{number}]", values)

    def _check_recipe(self, where: str, values: Mapping[str, Any]) -> None:
        try:
            self.recipe(values)
        except ConfigError as error:
            raise ValueError(f"{where}: {error}") from error
