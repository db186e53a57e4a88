"""The base of everything that a study says."""

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str | None


class Values(BaseModel):
    """Frozen values; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
