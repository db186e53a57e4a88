"""A run folder and its copy: what goes there in which order, what comes back, and what never."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch import runs
from raysearch.config import Objective, Recipe
from raysearch.errors import RunError
from raysearch.records.run_folder import RunFolder
from raysearch.search import at_hand as search_at_hand
from raysearch.search import claim
from raysearch.search.at_hand import at_hand
from raysearch.search.book import Book
from raysearch.search.claim import Claim
from raysearch.search.mirror import (
    Mirror,
    fill_in,
    find_in_storage,
    mirrored,
    pull_run,
    push,
)
from raysearch.search.pulling import pull_trial
from raysearch.search.retention import Retention
from raysearch.search.uploads import Background, Upload
from raysearch.storage import Storage
from raysearch.study import to_yaml
from raysearch.training import checkpoint
from raysearch.training.history import append_epoch, read_history
from tests.faults.searches import wait_for
from tests.search.conftest import small_study
from tests.stores import BUCKET, Store, object_store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "EVERY_SECONDS", 0.2)
    monkeypatch.setattr(claim, "MOMENT_SECONDS", 0.3)
    monkeypatch.setattr(claim, "WATCH_SECONDS", 2.0)


class Shelf(Storage):
    """Storage that notes what is done, takes its time while `slow` exists, and is away while
    `away` does."""

    @property
    def told(self) -> Path:
        return Path(self.uri).with_suffix(".told")

    def __truediv__(self, name: str) -> "Shelf":
        return Shelf(self.uri, f"{self.folder}/{name}".strip("/"))

    def _note(self, what: str, name: str) -> None:
        if Path(self.uri).with_suffix(".slow").exists():
            time.sleep(0.1)
        if Path(self.uri).with_suffix(".away").exists():
            raise ConnectionError("nobody answers")
        with self.told.open("a") as file:
            file.write(f"{what} {name}\n")

    def upload(self, path: Path, name: str, size: int | None = None) -> None:
        self._note("upload", name)
        super().upload(path, name, size)

    def files(self) -> dict[str, int]:
        self._note("list", "")
        return super().files()

    def delete(self, name: str) -> None:
        self._note("delete", name)
        super().delete(name)

    def has(self, name: str) -> bool:
        self._note("ask for", name)
        return super().has(name)

    def uploads(self) -> list[str]:
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        self.told.unlink(missing_ok=True)
        return [line.removeprefix("upload ") for line in lines if line.startswith("upload")]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "storage").mkdir()
    return Shelf.of(str(tmp_path / "storage"))


def train(folder: Path, epoch: int, best: bool = False, value: float = 0.5) -> None:
    """Write what a trial's epoch leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"epoch": epoch, "miou": value, "best": value, "best_epoch": epoch}
    append_epoch(folder, metrics)
    weights = {"w": torch.full((3,), float(epoch))}
    if best:
        checkpoint.save(folder / "best", epoch, weights, metrics=metrics, keep=1)
    checkpoint.save(folder / "last", epoch, weights, {"ema": {}}, metrics)


def checkpoints(names: Any) -> set[str]:
    return {name.rpartition("/")[0] for name in names if "epoch-" in name}


class TestUpload:
    def test_only_what_changed_goes_again(self, shelf: Shelf, tmp_path: Path) -> None:
        folder = tmp_path / "trial"
        train(folder, 1)
        upload = Upload(folder, shelf)
        assert upload()
        assert not upload()
        shelf.uploads()
        train(folder, 2)
        assert upload()
        assert checkpoints(shelf.uploads()) == {"last/epoch-0002"}

    def test_a_checkpoint_says_last_that_it_is_whole(self, shelf: Shelf, tmp_path: Path) -> None:
        train(tmp_path / "trial", 1, best=True)
        Upload(tmp_path / "trial", shelf)()
        names = shelf.uploads()
        for kind in ("best", "last"):
            assert names.index(f"{kind}/epoch-0001/meta.json") > max(
                names.index(f"{kind}/epoch-0001/{name}")
                for name in ("weights.safetensors", "state.pt")
            )

    def test_storage_has_the_line_of_every_epoch_that_it_has_a_checkpoint_of(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        train(tmp_path / "trial", 1, best=True)
        Upload(tmp_path / "trial", shelf)()
        names = shelf.uploads()
        assert names.index("metrics.jsonl") < min(
            names.index(f"{kind}/epoch-0001/meta.json") for kind in ("best", "last")
        )

    def test_ends_go_before_the_journal_and_that_before_recipes(
        self, shelf: Shelf, run: RunFolder
    ) -> None:
        run.begin_trial(0, Recipe(architecture="unet"))
        run.end_trial(0, "failed", "exception", Objective())
        run.begin_trial(1, Recipe(architecture="unet"))
        run.journal.write_text("one\n")
        Upload(run.path, shelf)()
        names = shelf.uploads()
        ends, recipes = "trials/0000/end.json", "trials/0001/recipe.json"
        assert names.index(ends) < names.index("optuna.journal") < names.index(recipes)

    def test_another_process_sends_no_checkpoint_twice(self, shelf: Shelf, tmp_path: Path) -> None:
        train(tmp_path / "trial", 1)
        Upload(tmp_path / "trial", shelf)()
        shelf.uploads()
        Upload(tmp_path / "trial", shelf)()
        assert shelf.uploads() == ["metrics.jsonl"]

    def test_an_epoch_that_was_trained_again_replaces_the_first(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        folder = tmp_path / "trial"
        train(folder, 1)
        Upload(folder, shelf)()
        checkpoint.save(folder / "last", 1, {"w": torch.full((3,), 7.0)}, {"ema": {}})
        Upload(folder, shelf)()
        pull_trial(shelf, tmp_path / "node")
        found = checkpoint.load(tmp_path / "node" / "last")
        assert found is not None
        assert found.weights["w"].tolist() == [7.0, 7.0, 7.0]

    def test_nothing_of_tune_and_nothing_hidden(self, shelf: Shelf, run: RunFolder) -> None:
        for name in ("ray/state.pkl", "trials/0000/.lock", "probabilities/val.npy", "owner.json"):
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).write_text("x")
        (run.path / "link.json").symlink_to("/etc/hostname")
        Upload(run.path, shelf)()
        assert shelf.uploads() == ["run.json"]


class TestPull:
    def test_a_node_takes_what_is_newer_and_keeps_what_is_not(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        here, there = tmp_path / "here", tmp_path / "there"
        train(there, 1, best=True)
        train(there, 2)
        Upload(there, shelf)()
        train(here, 1)
        pull_trial(shelf, here)
        assert checkpoint.newest(here) == (2, 0)
        assert (here / "best/epoch-0001").is_dir()
        train(here, 3)
        before = (here / "metrics.jsonl").read_text()
        pull_trial(shelf, here)
        assert checkpoint.newest(here) == (3, 0)
        assert (here / "metrics.jsonl").read_text() == before

    @pytest.mark.parametrize("lost", ["meta.json", "weights.safetensors"])
    def test_a_half_uploaded_checkpoint_is_passed_over(
        self, shelf: Shelf, tmp_path: Path, lost: str
    ) -> None:
        train(tmp_path / "there", 1)
        train(tmp_path / "there", 2)
        Upload(tmp_path / "there", shelf)()
        shelf.delete(f"last/epoch-0002/{lost}")
        pull_trial(shelf, tmp_path / "here")
        found = checkpoint.load(tmp_path / "here" / "last")
        assert found is not None
        assert found.epoch == 1

    def test_the_best_of_an_epoch_that_comes_again_is_left(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        there = tmp_path / "there"
        train(there, 1, best=True)
        Upload(there, shelf)()
        checkpoint.save(there / "best", 2, {"w": torch.ones(3)}, keep=1)
        Upload(there, shelf)()
        pull_trial(shelf, tmp_path / "here")
        assert [path.name for path in (tmp_path / "here/best").iterdir()] == ["epoch-0001"]

    def test_what_an_older_process_left_here_goes(self, shelf: Shelf, tmp_path: Path) -> None:
        train(tmp_path / "here", 1, best=True)
        for epoch in (1, 2, 3):
            train(tmp_path / "there", epoch, best=True)
        Upload(tmp_path / "there", shelf)()
        pull_trial(shelf, tmp_path / "here")
        assert [path.name for path in (tmp_path / "here/best").iterdir()] == ["epoch-0003"]


class TestBackground:
    def test_work_is_tried_again_until_it_succeeds(self, caplog: pytest.LogCaptureFixture) -> None:
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError("nobody answers")

        background = Background(work, "test")
        with caplog.at_level(logging.WARNING):
            asked = background.ask()
            assert not background.wait(asked, 60, while_well=True)
            assert background.wait(asked, 60)
        assert caplog.text.count("nobody answers") == 1
        assert background.close(60) == ""
        assert not background.thread.is_alive()

    def test_what_could_not_be_done_is_said(self) -> None:
        def work() -> None:
            raise PermissionError("access denied")

        background = Background(work, "test")
        assert background.close(0.1) == "access denied"

    def test_work_begun_before_it_was_asked_for_does_not_count(self) -> None:
        begun, go_on, count = threading.Event(), threading.Event(), [0]

        def work() -> None:
            count[0] += 1
            begun.set()
            go_on.wait(60)

        background = Background(work, "test")
        background.ask()
        begun.wait(60)
        second = background.ask()
        go_on.set()
        assert background.wait(second, 60)
        assert count == [2]
        background.close(60)


class TestTrialOnItsNode:
    def fit(self, shelf: Shelf, run: Path, epochs: range, rungs: Sequence[int] = ()) -> list[Any]:
        """Train as a trial does; return what was in storage when each epoch was told."""
        folder, known = run / "trials/0000", []
        with at_hand(shelf, run, folder, 0, rungs) as uploading:

            def report(metrics: dict[str, Any]) -> None:
                files = Storage(shelf.uri, shelf.folder).files()
                found = checkpoints(name for name in files if "/last/" in name)
                known.append({name.rpartition("-")[2] for name in found})

            told = uploading(report)
            for epoch in epochs:
                train(folder, epoch)
                told({"epoch": epoch, "finished": "max epochs" if epoch == epochs[-1] else ""})
        return known

    @pytest.fixture(autouse=True)
    def begun(self, shelf: Shelf) -> None:
        shelf.write("splits.json", b"{}")
        shelf.write("trials/0000/recipe.json", b"{}")

    def test_an_epoch_is_told_when_the_one_before_is_in_storage(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        Path(shelf.uri).with_suffix(".slow").touch()
        known = self.fit(shelf, tmp_path / "node", range(1, 5))
        assert "0001" in known[1]
        assert "0002" in known[2]
        assert "0004" in known[3]

    def test_an_epoch_that_may_be_the_last_is_told_when_it_is_in_storage(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        Path(shelf.uri).with_suffix(".slow").touch()
        known = self.fit(shelf, tmp_path / "node", range(1, 4), [1])
        assert "0001" in known[0]
        assert (tmp_path / "node/splits.json").is_file()

    def test_older_checkpoints_go_when_newer_ones_are_there(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        self.fit(shelf, tmp_path / "node", range(1, 6))
        assert checkpoints(shelf.files()) == {
            "trials/0000/last/epoch-0004", "trials/0000/last/epoch-0005",
        }  # fmt: skip

    def test_another_node_goes_on_where_the_first_was_lost(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        self.fit(shelf, tmp_path / "first", range(1, 4))
        with at_hand(shelf, tmp_path / "second", tmp_path / "second/trials/0000", 1, ()):
            assert checkpoint.newest(tmp_path / "second/trials/0000") == (3, 0)

    def test_a_node_forgets_trials_that_have_ended(self, shelf: Shelf, tmp_path: Path) -> None:
        self.fit(shelf, tmp_path / "node", range(1, 3))
        shelf.write("trials/0000/end.json", b"{}")
        shelf.write("trials/0001/recipe.json", b"{}")
        with at_hand(shelf, tmp_path / "node", tmp_path / "node/trials/0001", 0, ()):
            assert not (tmp_path / "node/trials/0000").exists()

    @pytest.mark.parametrize("epochs_elsewhere", [2, 3])
    def test_what_could_not_be_sent_is_sent_before_it_is_forgotten(
        self,
        shelf: Shelf,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        epochs_elsewhere: int,
    ) -> None:
        monkeypatch.setattr(search_at_hand, "PATIENCE_SECONDS", 0.1)
        node, away = tmp_path / "node", Path(shelf.uri).with_suffix(".away")
        with at_hand(shelf, node, node / "trials/0000", 0, ()):
            away.touch()
            train(node / "trials/0000", 1)
            train(node / "trials/0000", 2)
        away.unlink()
        end = json.dumps({"epochs": epochs_elsewhere})
        shelf.write("trials/0000/end.json", end.encode())
        shelf.write("trials/0001/recipe.json", b"{}")
        with at_hand(shelf, node, node / "trials/0001", 0, ()):
            assert not (node / "trials/0000").exists()
        came = "trials/0000/last/epoch-0002" in checkpoints(shelf.files())
        assert came == (epochs_elsewhere == 2)  # Otherwise another node has trained it further.

    def test_nothing_is_written_of_a_trial_that_storage_does_not_know(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        """Its journal would give the number away a second time."""
        folder = tmp_path / "node/trials/0005"
        with at_hand(shelf, tmp_path / "node", folder, 0, ()) as uploading:
            train(folder, 1)
            uploading(lambda metrics: None)({"epoch": 1, "finished": ""})
            wait_for(lambda: "ask for recipe.json" in shelf.told.read_text(), 60, "not asked")
            assert not [name for name in shelf.files() if "0005" in name]
            shelf.write("trials/0005/recipe.json", b"{}")
        assert checkpoints(shelf.files()) == {"trials/0005/last/epoch-0001"}


@pytest.fixture
def store() -> Iterator[Store]:
    with object_store() as found:
        yield found
        while claim._brought:
            claim._brought.popitem()[1].release(delete=False)


def searched(run: RunFolder) -> None:
    """A search with an ended trial and one that runs."""
    study = small_study()
    run.write("study.yaml", study.model_dump_json())
    run.write("splits.json", "{}")
    run.journal.write_text("one\ntwo\n")
    for number in (0, 1):
        run.begin_trial(number, Recipe(architecture="unet"))
        train(run.trial_folder(number), 1, best=True)
    run.end_trial(0, "completed", "max epochs", Objective())


class TestRunInStorage:
    def test_a_run_goes_there_and_comes_back(
        self, run: RunFolder, store: Store, tmp_path: Path
    ) -> None:
        searched(run)
        storage = Storage.of(store.uri()) / run.name
        push(run, storage)
        found = pull_run(str(storage), tmp_path / "fresh")
        assert found.path == tmp_path / "fresh" / run.name
        assert found.is_mine
        assert [record.state for record in found.trials()] == ["completed", "running"]
        assert checkpoint.load(found.trial_folder(0) / "best") is not None
        assert not (found.trial_folder(1) / "last").exists()
        assert (found.path.parent / "latest").resolve() == found.path
        assert found.journal.read_text() == "one\ntwo\n"

    def test_a_torn_journal_is_mended(self, run: RunFolder, store: Store, tmp_path: Path) -> None:
        searched(run)
        run.journal.write_text('one\n{"torn"')
        storage = Storage.of(store.uri()) / run.name
        push(run, storage)
        assert pull_run(str(storage), tmp_path / "fresh").journal.read_text() == "one\n"

    def test_what_could_not_be_uploaded_is_pushed_by_a_command(
        self, run: RunFolder, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        searched(run)
        study = small_study(resources={"storage": store.uri()})
        run.write("study.yaml", to_yaml(study))
        assert runs.main(["push", run.name, "--output", str(run.output)]) == 0
        assert "is complete in" in capsys.readouterr().out
        there = (Storage.of(store.uri()) / run.name).files()
        assert "trials/0000/best/epoch-0001/meta.json" in there
        store.go_away()
        assert runs.main(["push", run.name, "--output", str(run.output)]) == 2
        assert "cannot be used" in capsys.readouterr().err

    def test_what_is_here_already_is_not_replaced(self, run: RunFolder, store: Store) -> None:
        searched(run)
        storage = Storage.of(store.uri()) / run.name
        push(run, storage)
        with pytest.raises(RunError, match="is here already"):
            pull_run(str(storage), run.output)

    def test_a_run_that_is_not_there(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="holds no search"):
            pull_run(str(Storage.of(store.uri()) / "small/never"), tmp_path)

    def test_the_newest_is_found_by_its_study(
        self, run: RunFolder, store: Store, tmp_path: Path
    ) -> None:
        searched(run)
        storage, study = Storage.of(store.uri()), run.path.parent.name
        push(run, storage / run.name)
        (storage / study).write("99999999-000000/notes.txt", b"no search")
        for name in (study, run.name):
            found = find_in_storage(store.uri(), name, tmp_path / name)
            assert found.path == tmp_path / name / run.name
            assert found.numbers() == [0, 1]
        assert find_in_storage(store.uri(), study, run.output).path == run.path
        for name in ("other", f"{study}/20000101-000000"):
            with pytest.raises(RunError, match=f"holds no search {name}"):
                find_in_storage(store.uri(), name, tmp_path)

    @pytest.mark.parametrize("name", ["../../escaped", "trials/0000/../../../../escaped", "a//b"])
    def test_names_that_lead_out_of_the_folder_are_refused(
        self, run: RunFolder, store: Store, tmp_path: Path, name: str
    ) -> None:
        searched(run)
        storage = Storage.of(store.uri()) / run.name
        push(run, storage)
        path = f"searches/{run.name}/{name}"
        store.client().put_object(Bucket=BUCKET, Key=path, Body=b"payload")
        with pytest.raises(RunError, match="holds a file of the name"):
            pull_run(str(storage), tmp_path / "a" / "b" / "c" / "d")
        assert not list(tmp_path.rglob("*escaped*"))

    def test_a_second_resume_is_refused_with_the_owner_named(
        self, run: RunFolder, store: Store, tmp_path: Path
    ) -> None:
        searched(run)
        study = small_study(resources={"storage": store.uri()})
        with mirrored(run, study) as mirror:
            assert mirror is not None
            mirror.search_started(run, study)
            mirror.background.wait(mirror.background.ask(), 60)
            with pytest.raises(RunError, match=r"process \d+ on .* is searching here"):
                pull_run(str(mirror.storage), tmp_path / "fresh")
        assert pull_run(str(mirror.storage), tmp_path / "fresh").numbers() == [0, 1]

    def test_push_leaves_what_another_node_has_brought_further(
        self, run: RunFolder, shelf: Shelf, tmp_path: Path
    ) -> None:
        searched(run)
        node = tmp_path / "node"
        train(node, 1)
        train(node, 2)
        Upload(node, shelf / "trials/0001")()
        push(run, shelf)
        assert "trials/0001/last/epoch-0002/meta.json" in shelf.files()
        assert len(shelf.read("trials/0001/metrics.jsonl").splitlines()) == 2


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class TestRetention:
    @pytest.fixture
    def retention(self, run: RunFolder, shelf: Shelf) -> Iterator[Retention]:
        """Of a search that has begun its first trial, with a copy on the shelf."""
        mirror = Mirror(run, shelf, Claim(shelf))
        retention = Retention(mirror)
        retention.search_started(run, small_study())
        run.begin_trial(0, Recipe(architecture="unet"))
        yield retention
        mirror.background.close(60)
        mirror.claim.release()

    def test_checkpoints_in_storage_follow_those_here(
        self, run: RunFolder, shelf: Shelf, retention: Retention, tmp_path: Path
    ) -> None:
        node = tmp_path / "node"
        train(node, 1, best=True)
        train(node, 2)
        Upload(node, shelf / "trials/0000")()
        append_epoch(run.trial_folder(0), read_history(node)[0])
        retention.trial_ended(run.end_trial(0, "completed", "max epochs", small_study().objective))
        retention.close()
        assert checkpoints(shelf.files()) == {
            "trials/0000/best/epoch-0001", "trials/0000/final/epoch-0002",
        }  # fmt: skip
        here = {path.name for path in run.trial_folder(0).glob("*/epoch-*")}
        assert here == {"epoch-0001", "epoch-0002"}

    def test_a_best_epoch_that_its_node_has_yet_to_bring_is_taken_later(
        self, run: RunFolder, shelf: Shelf, retention: Retention, tmp_path: Path
    ) -> None:
        node = tmp_path / "node"
        train(node, 1, best=True)
        Upload(node, shelf / "trials/0000")()
        for epoch in (1, 2):
            metrics = {"epoch": epoch, "miou": 0.1 * epoch, "best": 0.1 * epoch}
            append_epoch(run.trial_folder(0), {**metrics, "best_epoch": epoch})
        retention.trial_ended(run.end_trial(0, "completed", "max epochs", small_study().objective))
        retention.pool.submit(lambda: None).result(60)
        assert not retention.settled
        train(node, 2, best=True)
        Upload(node, shelf / "trials/0000")()
        retention.close()
        assert retention.settled == {0: True}
        assert (run.trial_folder(0) / "best/epoch-0002").is_dir()

    def test_the_worst_trials_go_when_the_disk_budget_is_spent(self, run: RunFolder) -> None:
        run.begin_trial(3, Recipe(architecture="unet"))
        train(run.trial_folder(3), 1, best=True, value=0.1)  # It runs until the end.
        best, last = (_bytes(run.trial_folder(3) / kind) for kind in ("best", "last"))
        study = small_study(resources={"disk_gb": (best + last + 2.5 * best) / 1e9})
        retention = Retention()
        retention.search_started(run, study)
        for number, value in enumerate((0.5, 0.7, 0.3)):
            run.begin_trial(number, Recipe(architecture="unet"))
            train(run.trial_folder(number), 1, best=True, value=value)
            end = run.end_trial(number, "completed", "max epochs", study.objective)
            retention.trial_ended(end)
            retention.pool.submit(lambda: None).result(60)
        retention.close()
        kept = {p.parents[1].name for p in run.path.glob("trials/*/best/epoch-*")}
        assert kept == {"0000", "0001", "0003"}
        assert run.info["checkpoint_bytes"] > 0

    def test_a_budget_below_the_best_trial_is_said_once(
        self, run: RunFolder, caplog: pytest.LogCaptureFixture
    ) -> None:
        study = small_study(resources={"disk_gb": 1e-9})
        retention = Retention()
        retention.search_started(run, study)
        with caplog.at_level(logging.WARNING):
            for number in range(2):
                run.begin_trial(number, Recipe(architecture="unet"))
                train(run.trial_folder(number), 1, best=True)
                end = run.end_trial(number, "completed", "max epochs", study.objective)
                retention.trial_ended(end)
            retention.close()
        assert caplog.text.count("resources.disk_gb") == 1
        assert len(list(run.path.glob("trials/*/best"))) == 1


def test_an_epoch_of_another_node_is_filled_in_once(tmp_path: Path) -> None:
    metrics = {"epoch": 1, "miou": 0.5, "finished": ""}
    told = {**metrics, "config": {}, "pid": 7, "trial_id": "x", "done": False, "hostname": "n"}
    fill_in(tmp_path, told)
    fill_in(tmp_path, told)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [metrics]


def test_an_epoch_that_nobody_was_told_of_counts_when_it_is_told_again(run: RunFolder) -> None:
    study = small_study(resources={"storage": "s3://runs/x"})
    run.begin_trial(0, Recipe(architecture="unet"))
    append_epoch(run.trial_folder(0), {"epoch": 1, "miou": 0.5})
    book = Book(run, study, [])
    for epoch, value in ((2, 0.7), (2, 0.7), (3, 0.6)):
        book.epoch(0, {"epoch": epoch, "miou": value, "pid": 7})
    record = book.end(0, "completed", "max epochs")
    assert (record.epochs, record.best_epoch, record.value) == (3, 2, 0.7)
    assert book.values[0] == {1: 0.5, 2: 0.7, 3: 0.6}
