"""cluster.yaml as Ray reads it, without a cloud."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    return config


def check(cluster: dict[str, Any]) -> None:
    """Fill in the provider's defaults and check the whole, as `ray up` does first."""
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_is_valid(cluster: dict[str, Any]) -> None:
    check(cluster)


def test_misspelt_key_is_refused(cluster: dict[str, Any]) -> None:
    cluster["idle_timeout_minute"] = cluster.pop("idle_timeout_minutes")
    with pytest.raises(ValidationError, match="idle_timeout_minute"):
        check(cluster)


def test_misspelt_key_of_a_node_type_is_refused(cluster: dict[str, Any]) -> None:
    gpu = cluster["available_node_types"]["gpu"]
    gpu["min_worker"] = gpu.pop("min_workers")
    with pytest.raises(ValidationError, match="min_worker"):
        check(cluster)


def test_head_runs_drivers_only_and_gpus_start_from_zero(cluster: dict[str, Any]) -> None:
    head, gpu = (cluster["available_node_types"][name] for name in ("head", "gpu"))
    assert cluster["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert gpu["min_workers"] == 0
    assert gpu["resources"]["GPU"] > 0


def test_every_node_asks_for_the_token_and_the_dashboard_stays_on_loopback(
    cluster: dict[str, Any],
) -> None:
    head, worker = (
        cluster[f"{kind}_start_ray_commands"][-1].split() for kind in ("head", "worker")
    )
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert "~/.ray/auth_token" in cluster["file_mounts"]


def test_project_files_that_nodes_receive_exist(cluster: dict[str, Any]) -> None:
    local = [path for path in cluster["file_mounts"].values() if not path.startswith("~")]
    assert [path for path in local if not (ROOT / path).exists()] == []
