"""The head's disk is lost, or the object store goes away: nothing of a search is lost."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysearch.storage import Storage
from tests.faults.nodes import Cluster
from tests.faults.searches import (
    EPOCHS,
    Search,
    assert_whole,
    kill,
    repeated,
    sample_data,
    wait_for,
)
from tests.stores import Store, object_store

Told = Callable[[int, str], None]


@pytest.fixture
def store() -> Iterator[Store]:
    with object_store() as found:
        yield found


def runs(store: Store) -> list[str]:
    """URIs of the runs in storage."""
    root = Storage.of(store.uri())
    names = [name for name in root.files() if name.endswith("/run.json")]
    return [str(root / name.removesuffix("/run.json")) for name in names]


def stored_epochs(store: Store) -> int:
    """How many epochs of all trials are written in storage."""
    root = Storage.of(store.uri())
    names = [name for name in root.files() if name.endswith("/metrics.jsonl")]
    return sum(len(root.read(name).splitlines()) for name in names)


@pytest.mark.slow
@pytest.mark.fault("storage away")
def test_a_search_goes_on_from_storage_on_a_fresh_machine(
    tmp_path: Path, store: Store, repetitions: Told
) -> None:
    search = Search(tmp_path)
    process = search.start("--storage", store.uri())
    told = "no epochs in storage"
    wait_for(lambda: stored_epochs(store) >= EPOCHS + 3 or process.poll() is not None, 300, told)
    assert process.poll() is None, search.output
    kill(process)
    known, trials = search.times(), len(search.trials())
    shutil.rmtree(tmp_path / "results")
    (uri,) = runs(store)
    output = search.run("--resume", uri)
    assert_whole(search)
    again = repeated(known, search)
    # An epoch that was written but not told, and the one whose upload it waited for.
    assert max(again.values()) <= 2, (again, output)
    root = Storage.of(uri, levels=2)
    names = root.files()
    assert not [n for n in names if n.endswith((".pkl", "owner.json")) or "/ray/" in n]
    assert root.has("summary.json")
    assert sum(n.startswith("trials/") and n.endswith("end.json") for n in names) == 4
    assert not [n for n in names if "/last/" in n]
    repetitions(1, f"disk lost with {trials} trials; epochs trained again: {max(again.values())}")


@pytest.mark.slow
@pytest.mark.fault("storage away")
def test_training_goes_on_while_storage_is_away(
    tmp_path: Path, store: Store, repetitions: Told
) -> None:
    search = Search(tmp_path)
    process = search.start("--storage", store.uri())
    wait_for(lambda: search.epochs() >= 2 or process.poll() is not None, 300, "no epoch")
    store.go_away()
    before, began = search.epochs(), time.monotonic()
    wait_for(lambda: search.epochs() >= before + EPOCHS, 200, "training waits for storage")
    away = time.monotonic() - began
    store.come_back()
    assert process.wait(timeout=400) == 0, search.output
    assert_whole(search)
    assert stored_epochs(store) == 4 * EPOCHS
    assert "lacks some of this search" not in search.output
    repetitions(1, f"away for {away:.0f} s")


HIDE = 'for folder in "$1" "$2"; do mount -t tmpfs tmpfs "$folder"; done; shift 2; exec "$@"'


def without_files_of(search: Search) -> list[str]:
    """What to run a node by that sees neither the data nor what is written elsewhere."""
    results, data = search.folder / "results", sample_data().parent
    results.mkdir(exist_ok=True)
    return ["unshare", "--mount", "sh", "-ec", HIDE, "sh", str(results), str(data)]


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.fault("storage away")
@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_nodes_share_nothing_but_storage_and_one_is_lost(
    tmp_path: Path, store: Store, repetitions: Told, launcher: str
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("hiding folders from a node needs root and unshare")
    search = Search(tmp_path)
    within = without_files_of(search)
    with Cluster() as cluster:
        first, _ = cluster.add(within=within), cluster.add(within=within)
        asked = ("--address", cluster.address, "--launcher", launcher, "--storage", store.uri())
        process = search.start(*asked, env=cluster.token)
        wait_for(
            lambda: stored_epochs(store) >= EPOCHS or process.poll() is not None, 300, "no epochs"
        )
        assert process.poll() is None, search.output
        known = search.times()
        first.lose()
        assert process.wait(timeout=400) == 0, search.output
    assert_whole(search)
    again = repeated(known, search)
    assert max(again.values()) <= 1, again
    assert search.found is not None
    assert len(list(search.found.path.glob("trials/*/best/epoch-*/meta.json"))) == 4
    repetitions(1, f"{launcher}: a node lost, epochs trained again: {max(again.values())}")
