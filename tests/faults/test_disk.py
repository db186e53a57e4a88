"""A full disk: a file system of a few megabytes, filled while a search writes on it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from raysearch.errors import RunError
from raysearch.records.files import read_json, write_json
from raysearch.records.journal import load_journal, mend
from raysearch.training import checkpoint
from raysearch.training.checkpoint import LAST
from raysearch.training.history import read_history
from tests.faults.searches import Search, assert_whole, wait_for

Told = Callable[[int, str], None]
MEGABYTE = 1 << 20

pytestmark = pytest.mark.fault("disk full")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 16 MB, at the place where searches write."""
    if os.getuid() != 0:
        pytest.skip("only root mounts a file system")
    place = tmp_path / "results"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all the room that there is, but for so many bytes; return the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (MEGABYTE // 4, 4096, 64, 1):
            while room(disk) - size >= leave:
                try:
                    if not file.write(b"x" * size):
                        break
                except OSError:
                    break
    return ballast


def room(disk: Path) -> int:
    told = os.statvfs(disk)
    return told.f_bavail * told.f_frsize


def test_what_a_full_disk_broke_off_leaves_the_file_before(disk: Path, repetitions: Told) -> None:
    write_json(disk / "run.json", {"seed": 1})
    fill(disk)
    with pytest.raises(RunError, match=r"No space left on device.*--resume"):
        write_json(disk / "run.json", {"seed": 2, "more": "x" * 9000})
    assert read_json(disk / "run.json") == {"seed": 1}
    assert [path.name for path in disk.iterdir() if path.name[0] == "."] == []
    repetitions(1, "a file is whole")


def test_a_journal_that_a_full_disk_has_torn_goes_on(disk: Path, repetitions: Told) -> None:
    """The rest of a line would make one with the next, and the journal could never be read."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = disk / "optuna.journal"

    def study() -> optuna.Study:
        mend(path)
        storage = JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(storage=storage, study_name="tiny", load_if_exists=True)

    first = study()
    first.ask()
    ballast, known = fill(disk), len(path.read_bytes())

    def tell_without_end() -> None:
        for _ in range(1000):
            first.ask().set_user_attr("text", "x" * 500)

    with pytest.raises(OSError, match="No space left"):
        tell_without_end()
    assert len(path.read_bytes()) > known
    assert not path.read_bytes().endswith(b"\n")
    ballast.unlink()
    second = study()
    asked = second.ask().number
    found = load_journal(path)
    assert found is not None
    assert [trial.number for trial in found.get_trials()] == list(range(asked + 1))
    repetitions(1, "a torn journal is mended")


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(
    disk: Path, repetitions: Told
) -> None:
    """Whichever of its files the room ends in, whatever library notices: it is known for it."""
    from raysearch.search.failures import disk_full

    def save(epoch: int) -> None:
        parts = {"weight": torch.full((20_000,), float(epoch))}
        checkpoint.save(disk / LAST, epoch, parts, {"moments": torch.zeros(40_000)})

    rooms = [0, 4096, 40_000, 90_000, 120_000, 160_000]
    for leave in rooms:
        save(1)
        ballast = fill(disk, leave)
        with pytest.raises(Exception) as found:  # noqa: PT011
            save(2)
        assert disk_full(found.value), found.value
        ballast.unlink()
        newest = checkpoint.load(disk / LAST)
        assert newest is not None
        assert newest.epoch == 1
    repetitions(len(rooms), "a checkpoint for which there was no room")


# Less room than a checkpoint takes, with what remains for small files, and none at all.
@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 24 * 1024])
def test_a_search_ends_clearly_and_goes_on_when_there_is_room(
    tmp_path: Path, disk: Path, repetitions: Told, leave: int
) -> None:
    search = Search(tmp_path, budget={"epochs": 40})
    process = search.start()
    wait_for(lambda: search.epochs() >= 6 or process.poll() is not None, 150, "no epochs")
    ballast = fill(disk, leave)
    code = process.wait(timeout=120)
    assert search.found is not None, search.output
    told = " ".join(search.output.split())
    assert (code, "Traceback" in told) == (2, False), search.output
    assert "No space left" in told
    assert "--resume" in told

    histories = {r.number: r.history for r in search.trials()}
    assert sum(map(len, histories.values())) >= 6
    for number in histories:
        folder = search.found.trial_folder(number)
        assert not list((folder / LAST).glob("epoch-*")) or checkpoint.load(folder / LAST)

    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    search.run("--resume")
    assert_whole(search, epochs=40)
    for number, before in histories.items():
        again = read_history(search.found.trial_folder(number))
        same = sum(m["time"] == n["time"] for m, n in zip(before, again, strict=False))
        assert len(before) - same <= 1, f"trial {number}: epochs were trained twice"
    repetitions(1, f"{leave} bytes left: the records kept, the search resumed")
