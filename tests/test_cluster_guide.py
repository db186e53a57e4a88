"""docs/cluster.md names files, commands and options that exist, and rights that suffice."""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from ray.autoscaler._private.aws import node_provider
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME
from ray.scripts import scripts

from raysearch.cluster.files import read_documents

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"\b(cluster\.yaml)\b|\b(cluster/\w+\.\w+)")


TEXT = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")


class TestGuide:
    def test_names_files_that_exist(self) -> None:
        named = {path for pair in NAMED.findall(TEXT) for path in pair if path}
        there = {f"cluster/{path.name}" for path in (ROOT / "cluster").iterdir()}
        assert named == {*there, "cluster.yaml"}

    def test_names_commands_of_ray_that_exist(self) -> None:
        known = {**scripts.cli.commands, **job_commands()}
        named = set(re.findall(r"\bray ((?:job )?[a-z][a-z-]+)", TEXT))
        assert named
        assert {name for name in named if name not in known} == set()

    def test_names_options_that_exist(self) -> None:
        for module, rest in re.findall(r"python -m raysearch\.(\w+)([^`'\n]*)", TEXT):
            parser = import_module(f"raysearch.{module}").parser()
            known = {option for action in parser._actions for option in action.option_strings}
            assert set(re.findall(r"--[a-z-]+", rest)) <= known, module


class TestRolesOfAws:
    """The policies of the guide; the last one is what Ray's autoscaler needs on the head."""

    TRUST, BUCKET, MACHINES = (
        json.loads(block)["Statement"] for block in re.findall(r"```json(.*?)```", TEXT, re.S)
    )

    def test_the_bucket_alone_is_read_and_written(self) -> None:
        assert {one["Resource"].split("/")[0] for one in self.BUCKET} == {
            "arn:aws:s3:::YOUR-BUCKET"
        }
        assert allowed(self.BUCKET) == {
            "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject",
        }  # fmt: skip

    def test_the_head_may_do_what_ray_calls(self) -> None:
        source = Path(node_provider.__file__).read_text(encoding="utf-8")
        called = set(re.findall(r"ec2(?:_fail_fast)?(?:\.meta\.client)?\.(\w+)\(", source))
        # Machines are terminated and not kept (cache_stopped_nodes), so none is started again.
        called -= {"start_instances"}
        assert called == {
            "create_instances", "create_tags", "describe_images", "describe_instance_types",
        }  # fmt: skip
        assert allowed(self.MACHINES) == {
            "ec2:RunInstances", "ec2:CreateTags", "ec2:Describe*", "ec2:TerminateInstances",
            "iam:PassRole",
        }  # fmt: skip

    def test_the_head_ends_machines_of_its_cluster_alone(self) -> None:
        (config,) = read_documents(ROOT / "cluster.yaml")
        (one,) = [each for each in self.MACHINES if "ec2:TerminateInstances" in each["Action"]]
        tag = f"ec2:ResourceTag/{TAG_RAY_CLUSTER_NAME}"
        assert one["Condition"] == {"StringEquals": {tag: config["cluster_name"]}}
        assert config["provider"]["cache_stopped_nodes"] is False

    def test_only_the_workers_role_is_passed_on(self) -> None:
        (one,) = [each for each in self.MACHINES if "iam:PassRole" in each["Action"]]
        role = one["Resource"].rpartition("/")[2]
        assert f"for name in {role} " in TEXT


def allowed(statements: list[dict[str, Any]]) -> set[str]:
    """The actions that a policy allows."""
    actions = [one["Action"] for one in statements]
    return {a for each in actions for a in (each if isinstance(each, list) else [each])}


def job_commands() -> dict[str, Any]:
    found = scripts.cli.commands["job"].commands
    return {f"job {name}": command for name, command in found.items()}
