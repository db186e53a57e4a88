"""One search at a time, and a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from raysearch.errors import RunError
from raysearch.records.files import write_json
from raysearch.records.lock import Owner, this_process
from raysearch.records.run_folder import RunFolder

HOLD = """
import sys
from raysearch.records.run_folder import RunFolder
try:
    with RunFolder.open(sys.argv[1]).lock():
        print("held", flush=True)
        sys.stdin.read()
except KeyboardInterrupt:
    print("stopped")
"""


@contextmanager
def holder(run: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder."""
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_owner_is_this_process_while_it_holds(run: RunFolder) -> None:
    assert run.owner() is None
    with run.lock() as owner:
        assert owner == this_process()
        assert run.owner() == owner
        assert str(os.getpid()) in str(owner)
    assert run.owner() is None


def test_a_second_search_is_refused_by_name_and_death_frees(run: RunFolder) -> None:
    with holder(run) as process:
        with pytest.raises(RunError, match=f"process {process.pid} on "), run.lock():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run.owner() is None
        with run.lock():
            pass


def test_a_pid_that_is_used_again_is_not_the_search(run: RunFolder) -> None:
    me = this_process()
    other = Owner(me.pid, me.host, me.started - 100)
    write_json(run.path / "owner.json", asdict(other))
    assert not other.alive
    assert run.owner() is None


def test_a_process_of_another_host_is_judged_by_the_lock(run: RunFolder) -> None:
    elsewhere = Owner(1, "elsewhere", 0.0)
    write_json(run.path / "owner.json", asdict(elsewhere))
    assert run.owner() is None
    with holder(run):
        write_json(run.path / "owner.json", asdict(elsewhere))
        assert run.owner() == elsewhere
