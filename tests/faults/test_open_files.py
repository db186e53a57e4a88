"""A search needs many open files: the limit is raised, or the command that raises it is named."""

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.searches import Search, assert_whole, family, wait_for

Told = Callable[[int, str], None]
RAISE = "from raysearch.limits import raise_open_files; print(raise_open_files())"

pytestmark = [
    pytest.mark.fault("open files"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux's"),
]


def limited(soft: int, hard: int) -> list[str]:
    return ["prlimit", f"--nofile={soft}:{hard}"]


def raised(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*limited(soft, hard), sys.executable, "-c", RAISE],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def test_the_limit_is_raised_as_far_as_it_may(repetitions: Told) -> None:
    most = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert raised(64, most).stdout == f"{most}\n"
    assert raised(most, most).stdout == f"{most}\n"
    repetitions(2, f"64 raised to {most}")


def test_a_limit_that_cannot_be_raised_is_answered_with_the_command(repetitions: Told) -> None:
    refused = raised(64, 128)
    assert refused.returncode == 1
    assert "may open 128 files" in refused.stderr
    (command,) = re.findall(r"`sudo (prlimit .*?)`", refused.stderr)
    assert command == "prlimit --pid $$ --nofile=65536:65536"
    script = f"{command} && ulimit -n"
    shell = [*limited(64, 128), "sh", "-c", script]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    if "Operation not permitted" not in done.stderr:  # A user other than root needs the sudo.
        assert done.stdout == "65536\n"
    repetitions(1, "128 refused, with the command that raises it")


@pytest.mark.slow
def test_a_search_is_started_with_few_files_and_raises_them(
    tmp_path: Path, repetitions: Told
) -> None:
    search = Search(tmp_path, within=limited(48, 4096), budget={"trials": 2})
    process = search.start()
    wait_for(lambda: search.epochs() or process.poll() is not None, 120, "no epoch is written")
    for relative in family(psutil.Process(process.pid)):
        if "raylet" in relative.name():
            assert relative.rlimit(psutil.RLIMIT_NOFILE)[0] == 4096
    assert process.wait(timeout=200) == 0, search.output
    assert_whole(search, trials=2)
    repetitions(1, "a search begun with 48 completes")


@pytest.mark.slow
def test_a_search_that_may_open_too_few_ends_at_once(tmp_path: Path, repetitions: Told) -> None:
    search = Search(tmp_path, within=limited(128, 128))
    output = " ".join(search.run(code=2).split())
    assert output.startswith("error:")
    assert "may open 128 files" in output
    assert "Traceback" not in output
    assert search.found is None
    repetitions(1, "a search with 128 is refused")
