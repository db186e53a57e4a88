"""Candidates' answers on disk: right, and computed once."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from raysearch.data import Data, open_data
from raysearch.data.batch import as_tensor
from raysearch.errors import RunError
from raysearch.inference.models import load_model
from raysearch.inference.probabilities import (
    Candidate,
    Probabilities,
    as_logits,
    candidates,
    compute_all,
)
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training.metrics import build_metrics
from tests.inference.conftest import trained

CPU = torch.device("cpu")


@pytest.fixture
def data(run: RunFolder) -> Data:
    study = load_study(str(run.study_file))
    assert study.data.path is not None
    assert study.resources.cache is not None
    return open_data(study.data, study.data.path, study.resources.cache, seed=0)


def computed(run: RunFolder, data: Data, split: str = "val") -> list[Probabilities]:
    found = compute_all(candidates(run.path), data, split, CPU)
    return sorted(found, key=lambda one: one.candidate.name)


def test_candidates_are_the_trials_that_keep_their_weights(run: RunFolder) -> None:
    assert [one.name for one in candidates(run.path)] == ["0000-0001", "0001-0001"]
    assert all(one.size > 10_000 for one in candidates(run.path))


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_is_on_disk_is_what_the_network_says(run: RunFolder, data: Data, split: str) -> None:
    for one in computed(run, data, split):
        model = load_model(one.candidate.place.parent)
        metrics = build_metrics(model.task)
        for position, index in enumerate(data.indices(split)):
            image = as_tensor(data.cache.image(index))[None]
            said = model.probabilities(image)
            torch.testing.assert_close(one.image(position), said, atol=1e-3, rtol=0)
            torch.testing.assert_close(as_logits(said).softmax(1), said)
            metrics.update(said, torch.from_numpy(data.cache.mask(index).copy()))
            assert torch.equal(one.image(position, 3), one.image(position)[..., 1::3, 1::3])
        assert one.metrics["miou"] == pytest.approx(metrics.compute()["miou"])
        assert one.seconds_per_image > 0
        assert one.path.stat().st_size < 2 * one.offsets[-1] + 200


def written_at(found: Iterable[Probabilities]) -> list[int]:
    return [one.path.stat().st_mtime_ns for one in found]


def test_answers_are_computed_once(run: RunFolder, data: Data) -> None:
    first = computed(run, data)
    for one in first:
        os.utime(one.path, ns=(1, 1))
    again = computed(run, data)
    assert written_at(again) == [1, 1]
    assert again == first


def test_other_weights_are_asked_again(run: RunFolder, data: Data) -> None:
    for one in computed(run, data):
        os.utime(one.path, ns=(1, 1))
    study = load_study(str(run.study_file))
    # A new network under the same number and epoch.
    (run.trial_folder(0) / "metrics.jsonl").unlink()
    trained(run, 0, study.model_copy(), seed=7, miou=0.5)
    times = written_at(computed(run, data))
    assert times[0] != 1
    assert times[1] == 1


def test_half_a_file_is_not_taken_for_whole(run: RunFolder, data: Data) -> None:
    """What a killed run leaves has no description beside it, or a broken one."""
    one, two = computed(run, data)
    said = one.image(0)
    one.path.with_suffix(".json").unlink()
    two.path.with_suffix(".json").write_text("{")
    one.path.write_bytes(one.path.read_bytes()[:300])
    again = computed(run, data)
    assert torch.equal(again[0].image(0), said)
    assert json.loads(two.path.with_suffix(".json").read_text())["metrics"] == again[1].metrics


def test_candidates_can_be_mapped_over_others(run: RunFolder, data: Data, tmp_path: Path) -> None:
    def threads(
        function: Callable[[Candidate], Probabilities], wanted: Iterable[Candidate]
    ) -> Iterable[Probabilities]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(function, wanted))

    found = list(compute_all(candidates(run.path), data, "val", CPU, how=threads))
    for one, other in zip(found, computed(run, data), strict=True):
        assert torch.equal(one.image(0), other.image(0))


def test_a_full_disk_is_said_before(
    run: RunFolder, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(RunError, match="free the disk"):
        computed(run, data)
