"""Gives back what a failed start of a process group leaves reserved.

Ray 2.60 keeps the placement group of a TorchTrainer whose process group could not start, and the
next trial then waits for ever.
"""

import time

import ray
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

EVERY, UNUSED = 5.0, 20.0


class Sweeper:
    """Removes placement groups of this job whose CPUs and GPUs nobody has used for a while."""

    def __init__(self) -> None:
        self.looked = time.monotonic()
        self.unused_since: dict[str, float] = {}

    def __call__(self) -> None:
        """Look, every few seconds at most, and remove what was unused at every look for long."""
        now = time.monotonic()
        if now - self.looked < EVERY:
            return
        self.looked = now
        unused = _unused_groups()
        self.unused_since = {name: self.unused_since.get(name, now) for name in unused}
        for name, since in self.unused_since.items():
            if now - since >= UNUSED:
                remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))


def _unused_groups() -> list[str]:
    """Return this job's placement groups that hold CPUs or GPUs of which none is in use."""
    job = ray.get_runtime_context().get_job_id()
    free = ray.available_resources()
    found = []
    for name, group in placement_group_table().items():
        held = {"CPU": 0.0, "GPU": 0.0}
        for bundle in group["bundles"].values():
            for kind in held:
                held[kind] += bundle.get(kind, 0.0)
        ours = group["state"] == "CREATED" and name.endswith(job) and any(held.values())
        if ours and all(free.get(f"{k}_group_{name}", 0.0) >= n for k, n in held.items()):
            found.append(name)
    return found
