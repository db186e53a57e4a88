"""Every value that one trial trains with."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from raysearch.config.values import Scalar, Values


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
    """Every value that one trial trains with. Any of them may be searched or fixed.

    quarter_turns: quarter turns and flips at any strength, for pictures taken from above.
    mix_probability: share of the batches that MixUp or CutMix is applied to, where an alpha is > 0.
    pixel_weights: the data set's confidence weighs cross-entropy and focal loss.
    encoder_lr_ratio: the encoder's learning rate as a share of the others'.
    frozen: share of the epochs in which the encoder stands still (stage one of two).
    frozen_learning_rate: of stage one; by default learning_rate.
    gap_limit: a trial ends when training accuracy exceeds validation accuracy by more.
    save_every: keep a checkpoint every so many epochs, beside the best.
    stop_after: end after so many epochs of a schedule that is made for `epochs`.
    distill_weight, distill_temperature: matter where the study has teachers.
    """

    architecture: str
    network: dict[str, Scalar] = {}
    image_size: int | None = Field(default=None, ge=32)
    crop_size: int = Field(default=512, ge=32)
    augment_strength: float = Field(default=1.0, ge=0, le=2)
    elastic: bool = True
    quarter_turns: bool = False
    mixup_alpha: float = Field(default=0.0, ge=0)
    cutmix_alpha: float = Field(default=0.0, ge=0)
    mix_probability: float = Field(default=1.0, ge=0, le=1)
    batch_size: int = Field(default=8, ge=1)
    accumulation: int = Field(default=1, ge=1)
    loss: Annotated[dict[str, float], BeforeValidator(parse_loss)] = {"cross_entropy": 1.0}
    focal_alpha: float = Field(default=0.25, gt=0, lt=1)
    focal_gamma: float = Field(default=2.0, ge=0)
    tversky_alpha: float = Field(default=0.5, ge=0)
    tversky_beta: float = Field(default=0.5, ge=0)
    class_weights: Literal["none", "frequency"] = "none"
    pixel_weights: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    boundary_weight: float = Field(default=0.3, ge=0)
    boundary_positive_weight: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=5e-4, gt=0)
    encoder_lr_ratio: float = Field(default=1.0, gt=0)
    frozen: float = Field(default=0.0, ge=0, lt=1)
    frozen_learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    schedule: str = "cosine"
    warmup: float = Field(default=0.025, ge=0, lt=0.5)
    clip_norm: float | None = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    early_stopping: int | None = Field(default=None, ge=1)
    gap_limit: float | None = Field(default=None, gt=0)
    save_every: int | None = Field(default=None, ge=1)
    distill_weight: float = Field(default=0.7, ge=0, le=1)
    distill_temperature: float = Field(default=3.0, gt=0)
    gradient_checkpointing: bool = False
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    epochs: int = Field(default=100, ge=1)
    stop_after: int | None = Field(default=None, ge=1)
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

    @model_validator(mode="after")
    def _compilable(self) -> Self:
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile and gradient_checkpointing do not go together; set one of them to false"
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

    @property
    def last_epoch(self) -> int:
        return min(self.epochs, self.stop_after or self.epochs)

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


def outer(key: str) -> str:
    """Return the field of a key: loss of loss.dice."""
    return key.partition(".")[0]


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with the network's entries under keys of their own."""
    flat = {key: value for key, value in values.items() if key != "network"}
    return flat | {f"network.{k}": v for k, v in (values.get("network") or {}).items()}
