"""One search at a time in a run folder: the second is refused, and told who is there."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch.records.lock import OWNER
from raysearch.records.run_folder import RunFolder, find_runs
from tests.faults.searches import Search, assert_whole, kill, wait_for

Told = Callable[[int, str], None]
REFUSED = re.compile(r"process (\d+) on \S+ is searching here")

# Waits for a line, then takes the run folder for a moment.
TAKE = """
import sys
from raysearch.errors import RunError
from raysearch.records.run_folder import RunFolder

run = RunFolder(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with run.lock():
        print("held", flush=True)
        sys.stdin.readline()
except RunError as error:
    print(error)
"""

pytestmark = pytest.mark.fault("two owners")


def test_of_many_at_once_one_has_the_folder(tmp_path: Path, repetitions: Told) -> None:
    run, count = RunFolder.create(tmp_path, "tiny"), 6
    command = [sys.executable, "-c", TAKE, str(run.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen(command, **pipes) for _ in range(count)]  # type: ignore[call-overload]
    for taker in takers:
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    answers = {taker: taker.stdout.readline() for taker in takers}
    (holder,) = [taker for taker, answer in answers.items() if answer == "held\n"]
    for taker, answer in answers.items():
        found = REFUSED.search(answer)
        assert taker is holder or (found and int(found[1]) == holder.pid), answer
    holder.communicate("done\n")
    for taker in takers:
        taker.communicate()
    assert run.owner() is None
    repetitions(count - 1, f"of {count} processes at once one was let in")


class Second(Search):
    """Another command in the folder of a search, with an output of its own."""

    def __init__(self, first: Search, number: int = 2) -> None:
        self.folder, self.within = first.folder, first.within
        self.output_file = first.folder / f"output{number}.txt"


def assert_refused(second: Search, owner: int) -> None:
    words = " ".join(second.output.split())
    assert words.startswith("error:"), words
    found = REFUSED.search(words)
    assert found, words
    assert int(found[1]) == owner, words


@pytest.mark.slow
def test_of_two_resumes_at_once_one_is_refused(tmp_path: Path, repetitions: Told) -> None:
    search = Search(tmp_path, budget={"epochs": 30})
    first = search.start()
    wait_for(lambda: search.epochs() >= 3 or first.poll() is not None, 240, "no epochs")
    refused = Second(search)
    refused.run("--resume", code=2)
    assert first.poll() is None, "the search was over before the resume was refused"
    assert_refused(refused, first.pid)
    kill(first)
    searches = [search, Second(search, 3)]
    resumes = [one.start("--resume") for one in searches]
    codes = [one.wait(timeout=400) for one in resumes]
    assert sorted(codes) == [0, 2], [one.output for one in searches]
    assert_refused(searches[codes.index(2)], resumes[codes.index(0)].pid)
    assert_whole(search, epochs=30)
    assert search.found is not None
    assert not (search.found.path / OWNER).exists()
    repetitions(2, "resumes refused, beside a search and beside a resume")


@pytest.mark.slow
def test_two_new_searches_have_folders_of_their_own(tmp_path: Path, repetitions: Told) -> None:
    """Only a folder of a search has one owner; an output folder holds as many as you like."""
    search = Search(tmp_path, budget={"trials": 2})
    searches = [search, Second(search)]
    processes = [one.start() for one in searches]
    codes = [one.wait(timeout=400) for one in processes]
    assert codes == [0, 0], [one.output for one in searches]
    runs = find_runs(tmp_path / "results")
    assert len(runs) == 2
    for run in runs:
        assert [(r.number, r.state) for r in run.trials()] == [(0, "completed"), (1, "completed")]
    repetitions(1, "two new searches at once have a folder each")
