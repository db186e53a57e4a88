"""What the repository holds: a complete lock, no trace of one machine, a README that is true."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from raysearch.study import load_study

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINNED = re.compile(
    r"^([a-z0-9._-]+)==([^ ;]+)[^\n]*\\\n((?: +--hash=sha256:[0-9a-f]{64}[ \\]*\n)+)", re.M
)
FOLDERS = (
    "raysearch",
    "tests",
    "benchmarks",
    "docs",
    "search_spaces",
    "cluster",
    "results/figures",
    ".ci",
)
MACHINE = re.compile(r"(?<![\w.~$}])/(?:home|root|work|mnt|Users)/")
HOST = re.compile(
    r"(?:pypi|pythonhosted)\.org|download\.pytorch|--(?:extra-)?index-url[ =]|--find-links[ =]"
)


def files() -> list[Path]:
    loose = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    deep = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in [*loose, *deep] if "__pycache__" not in path.parts]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("trace", [MACHINE, HOST], ids=["machine path", "registry host"])
def test_no_trace_of_a_machine(trace: re.Pattern[str]) -> None:
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in files()}
    found = {str(path.relative_to(ROOT)): trace.findall(text) for path, text in texts.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_lock_names_no_place_and_hashes_every_version() -> None:
    assert "://" not in LOCK
    requirements = re.findall(r"^[a-z0-9][^\n]*", LOCK, re.M)
    assert len(PINNED.findall(LOCK)) == len(requirements) > 100


def test_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {name: version for name, version, _ in PINNED.findall(LOCK)}
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(line)
        name = re.sub(r"[._]+", "-", wanted.name).lower()
        assert wanted.specifier.contains(locked[name], prereleases=True), line


def test_readme_names_targets_and_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", readme())) <= targets
    for module in set(re.findall(r"-m (raysearch\.\w+)", readme())):
        assert find_spec(module) is not None, module


def test_readme_studies_are_valid(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", readme(), re.S)
    assert examples
    for text in examples:
        (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
        load_study(str(tmp_path / "study.yaml"))
