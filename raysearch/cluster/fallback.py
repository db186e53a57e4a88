"""Which machines Ray's autoscaler launches first: those that it was not refused lately."""

from typing import Any

from ray.autoscaler._private.resource_demand_scheduler import _resource_based_utilization_scorer


def score(
    node_resources: dict[str, float],
    resources: list[dict[str, float]],
    node_type: str,
    *,
    node_availability_summary: Any,
) -> tuple[Any, ...] | None:
    """Rank a node type for what trials ask for; the highest is launched.

    Ray's own ranking knows that a launch was refused, for want of spot machines say, and asks for
    the same ones again. This one puts refused types last for as long as Ray remembers (half an
    hour); among equals the name that is last in the alphabet goes first, gpu_spot before
    gpu_on_demand.

    Returns:
        None where no request fits on such a node.
    """
    ranked = _resource_based_utilization_scorer(
        node_resources, resources, node_availability_summary=node_availability_summary
    )
    if ranked is None:
        return None
    known = node_availability_summary.node_availabilities.get(node_type)
    suits_gpu, *rest = ranked
    return (suits_gpu, known is None or known.is_available, *rest)
