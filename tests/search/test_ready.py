"""A node that lacks something ends the process of a trial, and never counts against it."""

from pathlib import Path

import pytest

from raysearch.cluster import Slots
from raysearch.config import Recipe, Study
from raysearch.errors import DataError, WeightsError
from raysearch.records.run_folder import RunFolder
from raysearch.search import at_hand, ready, trial
from raysearch.search.context import Context
from raysearch.search.failures import TRIES
from raysearch.search.losses import LOST, MEMORY, NOT_READY, Losses, reason_of
from raysearch.search.ready import NotReady, preparing
from raysearch.storage import Storage
from raysearch.training import checkpoint
from raysearch.training.history import append_epoch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(at_hand, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(at_hand, "PATIENCE_SECONDS", 0.0)


class Away(Storage):
    """Storage that nobody answers for."""

    def __truediv__(self, name: str) -> "Away":
        return Away(self.uri, name)

    def files(self) -> dict[str, int]:
        raise ConnectionError("nobody answers")

    def has(self, name: str) -> bool:
        raise ConnectionError("nobody answers")


AWAY = Away("/nowhere")


@pytest.mark.parametrize("error", [ConnectionError(), DataError("none"), WeightsError("none")])
def test_what_a_node_lacks_is_not_the_configuration_s_failure(
    tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(NotReady), preparing(tmp_path):
        raise error


def test_where_the_search_runs_wrong_data_are_wrong_and_a_full_disk_is_full(
    run: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(DataError), preparing(run.path):
        raise DataError("other images")
    with pytest.raises(PermissionError), preparing(run.path, stored=False):
        raise PermissionError("the cache")
    with pytest.raises(OSError, match="No space left"), preparing(tmp_path):
        raise OSError(28, "No space left on device")


def test_a_node_that_never_is_ready_is_borne_for_an_hour() -> None:
    assert reason_of("raysearch.search.ready.NotReady: n: nobody answers") == NOT_READY
    assert [reason_of("OutOfMemoryError: x"), reason_of("killed")] == [MEMORY, LOST]
    losses = Losses(now=iter(range(0, 9000, 600)).__next__)
    lost = [losses.given_up(1, (0, 0), NOT_READY) for _ in range(7)]
    assert lost == [False] * 6 + [True]


class TestStorageAway:
    def test_the_head_goes_on_with_what_it_has(self, run: RunFolder) -> None:
        run.write("splits.json", "{}")
        folder = run.trial_folder(0)
        with at_hand.at_hand(AWAY, run.path, folder, 1, ()):
            pass
        append_epoch(folder, {"epoch": 1})
        checkpoint.save(folder / "last", 1, {})
        with at_hand.at_hand(AWAY, run.path, folder, 1, ()):
            assert checkpoint.newest(folder) == (1, 0)

    def test_the_head_waits_for_what_another_node_has_trained(self, run: RunFolder) -> None:
        run.write("splits.json", "{}")
        folder = run.trial_folder(0)
        folder.mkdir()
        for epoch in (1, 2):
            append_epoch(folder, {"epoch": epoch})
        with pytest.raises(NotReady, match="nobody answers"):
            at_hand.at_hand(AWAY, run.path, folder, 1, ()).__enter__()

    def test_a_trial_on_another_node_is_lost_and_not_failed(
        self, study: Study, tmp_path: Path
    ) -> None:
        run = tmp_path / "output/small/run"
        context = Context(
            run,
            tmp_path,
            tmp_path,
            tmp_path,
            "digest",
            study,
            Slots(1, 1, 1, 0, 1),
            "inline",
            0,
            AWAY,
        )
        recipe = Recipe(architecture="unet").model_dump()
        with pytest.raises(NotReady):
            trial.inline({"number": 0, "recipe": recipe}, context)
        assert not (run / "trials/0000" / TRIES).exists()
