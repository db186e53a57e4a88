"""Memory runs out in a control group with a limit: one trial suffers, and the others do not."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from raysearch.errors import TrialError
from raysearch.search.memory import NOTE, one_try
from raysearch.training import checkpoint
from raysearch.training.checkpoint import LAST
from tests.faults.groups import Group, limited
from tests.faults.searches import EPOCHS, Search, assert_recorded

Told = Callable[[int, str], None]
# A search with small networks takes less than two thirds of it; Ray Train starts more processes.
MEGABYTES = {"inline": 3300, "train": 6800}
EATER = "import sys; len(bytearray(int(sys.argv[1]) << 20))"

pytestmark = pytest.mark.fault("memory exhausted")


@pytest.fixture
def group(launcher: str) -> Iterator[Group]:
    with limited(MEGABYTES[launcher]) as made:
        yield made


def test_a_kill_by_the_kernel_is_known_by_its_count(repetitions: Told) -> None:
    """What the next try of a trial asks is answered inside the group that was short of memory."""
    ask = [sys.executable, "-c", "from raysearch.limits import oom_kills; print(oom_kills())"]
    with limited(300) as group:

        def count() -> int:
            command = [*group.inside(), *ask]
            return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

        assert count() == group.kills == 0
        for kills in (1, 2, 3):
            eater = [*group.inside(), sys.executable, "-c", EATER, "600"]
            assert subprocess.run(eater, check=False).returncode == -9
            assert count() == group.kills == kills
    repetitions(3, "the kernel's kills are counted")


def killed(folder: Path, kills: int) -> None:
    """A try that ends by SIGKILL leaves its note."""
    one_try(folder, lambda: kills).__enter__()


def test_a_second_kill_without_progress_is_the_last(tmp_path: Path) -> None:
    killed(tmp_path, 0)
    killed(tmp_path, 1)
    checkpoint.save(tmp_path / LAST, 1, {})
    killed(tmp_path, 2)
    with pytest.raises(TrialError, match=r"out of memory: .* 2 tries .* batch_size"):
        killed(tmp_path, 3)


def test_a_try_that_ends_otherwise_counts_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        killed(tmp_path, 5)  # By something else than the kernel's want of memory.
    with one_try(tmp_path, lambda: 5):
        assert (tmp_path / NOTE).is_file()
    assert not (tmp_path / NOTE).exists()


def hungry(folder: Path, within: list[str]) -> Search:
    """A search of one trial that takes more than the limit, and two that take little."""
    huge = {"type": "unet", "width": 512, "depth": 3}
    names = {"architecture": ["unet", "huge"]}
    search = Search(folder, within=within, networks={"huge": huge}, space=names)
    path = folder / "animals.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["networks"].pop("attention_unet")
    study["start"] = [{"architecture": name} for name in ("unet", "huge", "unet")]
    study["budget"]["trials"] = 3
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return search


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_the_kernel_kills_one_trial_alone(
    tmp_path: Path, group: Group, repetitions: Told, launcher: str
) -> None:
    search = hungry(tmp_path, group.inside())
    search.run("--launcher", launcher)
    assert 2 <= group.kills <= 4, "one try, and one more, of which Ray Train may lose two processes"
    assert_only_one_suffered(search)
    repetitions(group.kills, f"{launcher}, killed by the kernel: out of memory, others complete")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_rays_monitor_kills_one_trial_alone(
    tmp_path: Path, group: Group, repetitions: Told, launcher: str
) -> None:
    """Ray sees the limit, as in a container, and kills before the kernel has to."""
    search = hungry(tmp_path, group.inside(seen=True))
    search.run("--launcher", launcher)
    assert_only_one_suffered(search)
    repetitions(2, f"{launcher}, killed by Ray: out of memory, others complete")


def assert_only_one_suffered(search: Search) -> None:
    told = {r.number: (r.state, r.reason, r.epochs) for r in search.trials()}
    fine = ("completed", "max epochs", EPOCHS)
    assert told == {0: fine, 1: ("failed", "out of memory", 0), 2: fine}, search.output
    assert search.found is not None
    assert "memory" in search.found.error(1)
    for number in (0, 2):
        assert not (search.found.trial_folder(number) / "failures.json").exists()
    assert_recorded(search, {0: EPOCHS, 1: 0, 2: EPOCHS})
