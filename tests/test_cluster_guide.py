"""docs/cluster.md names files, commands and options that exist."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from ray.scripts import scripts

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"\b(cluster\.yaml)\b|\b(cluster/\w+\.\w+)")


class TestGuide:
    TEXT = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")

    def test_names_files_that_exist(self) -> None:
        named = {path for pair in NAMED.findall(self.TEXT) for path in pair if path}
        there = {f"cluster/{path.name}" for path in (ROOT / "cluster").iterdir()}
        assert named == {*there, "cluster.yaml"}

    def test_names_commands_of_ray_that_exist(self) -> None:
        known = {**scripts.cli.commands, **job_commands()}
        named = set(re.findall(r"\bray ((?:job )?[a-z][a-z-]+)", self.TEXT))
        assert named
        assert {name for name in named if name not in known} == set()

    def test_names_options_that_exist(self) -> None:
        for module, rest in re.findall(r"python -m raysearch\.(\w+)([^`'\n]*)", self.TEXT):
            parser = import_module(f"raysearch.{module}").parser()
            known = {option for action in parser._actions for option in action.option_strings}
            assert set(re.findall(r"--[a-z-]+", rest)) <= known, module


def job_commands() -> dict[str, Any]:
    found = scripts.cli.commands["job"].commands
    return {f"job {name}": command for name, command in found.items()}
