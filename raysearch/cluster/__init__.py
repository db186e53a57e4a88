"""The door to Ray for everything outside search/: joining a cluster and seeing what it has."""

from raysearch.cluster.joining import (
    SETTINGS,
    available_cpus,
    has_gpus,
    join,
    joined,
    suited_profile,
)
from raysearch.cluster.slots import Slots, slots

__all__ = [
    "SETTINGS",
    "Slots",
    "available_cpus",
    "has_gpus",
    "join",
    "joined",
    "slots",
    "suited_profile",
]
