"""The door to Ray for everything outside search/: joining a cluster and seeing what it has."""

from raysearch.cluster.every_node import Member, members, on_every_node
from raysearch.cluster.joining import (
    SETTINGS,
    available_cpus,
    find_address,
    join,
    joined,
    suited_profile,
)
from raysearch.cluster.slots import Limit, Slots, has_gpus, slots

__all__ = [
    "SETTINGS",
    "Limit",
    "Member",
    "Slots",
    "available_cpus",
    "find_address",
    "has_gpus",
    "join",
    "joined",
    "members",
    "on_every_node",
    "slots",
    "suited_profile",
]
