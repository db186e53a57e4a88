"""Models of one and of several members, on whole images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.data import Data, open_data, validation_batches
from raysearch.data.batch import as_tensor
from raysearch.errors import ConfigError, RunError
from raysearch.inference.models import Model, describe_model, load_model, write_bundle
from raysearch.inference.tiling import by_rows as tiled
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training.trained import load_trained


@pytest.fixture
def data(run: RunFolder) -> Data:
    study = load_study(str(run.study_file))
    assert study.data.path is not None
    assert study.resources.cache is not None
    return open_data(study.data, study.data.path, study.resources.cache, seed=0)


def raw(data: Data, index: int) -> Tensor:
    return as_tensor(data.cache.image(index))[None]


def test_a_single_model_says_what_validation_saw(run: RunFolder, data: Data) -> None:
    trained = load_trained(run.trial_folder(0))
    model = load_model(run.trial_folder(0))
    for batch in validation_batches(data, trained.recipe):
        for index, logits, mask in batch.native(trained.logits(batch.images)):
            found = model.probabilities(raw(data, index))
            assert found.shape == (1, 3, *mask.shape)
            torch.testing.assert_close(found, logits.softmax(1), atol=1e-5, rtol=0)


def test_members_are_averaged_by_their_weights(run: RunFolder, data: Data) -> None:
    one, two = (load_trained(run.trial_folder(number)) for number in (0, 1))
    images = raw(data, 0)
    alone = [Model((member,), (1.0,)).probabilities(images) for member in (one, two)]
    both = Model((one, two), (0.75, 0.25)).probabilities(images)
    torch.testing.assert_close(both, 0.75 * alone[0] + 0.25 * alone[1])
    votes = Model((one, two), (0.75, 0.25), vote="majority")
    assert torch.equal(votes.classes(votes.probabilities(images)), alone[0].argmax(1))


def test_temperature_flattens(run: RunFolder, data: Data) -> None:
    model = load_model(run.trial_folder(0))
    sharp = model.probabilities(raw(data, 0))
    flat = replace(model, temperature=4.0).probabilities(raw(data, 0))
    assert flat.max() < sharp.max()
    assert torch.equal(flat.argmax(1), sharp.argmax(1))
    torch.testing.assert_close(flat, (sharp.log() / 4).softmax(1))


def test_by_confidence_who_is_sure_counts_more(run: RunFolder, data: Data) -> None:
    """Each member's weight times 1 - entropy / log K, pixel by pixel, to a sum of 1."""
    one, two = (load_trained(run.trial_folder(number)) for number in (0, 1))
    images = raw(data, 0)
    alone = [Model((m,), (1.0,)).probabilities(images).double().numpy() for m in (one, two)]
    sure = [1 + (said * np.log(said)).sum(1, keepdims=True) / np.log(3) for said in alone]
    total = 0.75 * sure[0] * alone[0] + 0.25 * sure[1] * alone[1]
    expected = total / (0.75 * sure[0] + 0.25 * sure[1])
    model = Model((one, two), (0.75, 0.25), vote="confidence")
    found = model.probabilities(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - 0.75 * alone[0] - 0.25 * alone[1]).max() > 1e-4
    by_rows = torch.cat([rows for _, rows in tiled(model, [data.cache.image(0)])], dim=2)
    torch.testing.assert_close(by_rows, found, atol=1e-5, rtol=0)
    single = Model((one,), (1.0,), vote="confidence").probabilities(images)
    np.testing.assert_allclose(single, alone[0], atol=1e-5)


def test_members_that_know_nothing_have_a_say(run: RunFolder, data: Data) -> None:
    """No certainty at all is no division by 0."""
    one = load_trained(run.trial_folder(0))
    for parameter in one.network.parameters():
        parameter.data.zero_()
    said = Model((one,), (1.0,), vote="confidence").probabilities(raw(data, 0))
    torch.testing.assert_close(said, torch.full_like(said, 1 / 3))


def test_a_turned_image_has_a_turned_answer(run: RunFolder, data: Data) -> None:
    """With every turn averaged, turning the image turns the answer."""
    model = replace(
        load_model(run.trial_folder(0)), tta=("identity", "turn_90", "turn_180", "turn_270")
    )
    images = raw(data, 0)
    turned = model.probabilities(images.rot90(dims=(-2, -1)))
    torch.testing.assert_close(
        turned, model.probabilities(images).rot90(dims=(-2, -1)), atol=1e-5, rtol=0
    )


def test_an_ensemble_is_read_as_it_was_written(run: RunFolder, data: Data) -> None:
    members = tuple(load_trained(run.trial_folder(number)) for number in (0, 1))
    model = Model(
        members, (0.5, 0.5), "average", ("identity", "flip_horizontal"), 1.5, None, {"holes": 0.01}
    )
    (run.path / "ensemble.json").write_text(json.dumps(describe_model(model, run.path)))
    again = load_model(run.path)
    assert describe_model(again, run.path) == describe_model(model, run.path)
    assert torch.equal(again.probabilities(raw(data, 1)), model.probabilities(raw(data, 1)))
    (run.path / "ensemble.json").write_text("{}")
    with pytest.raises(RunError, match="write it again"):
        load_model(run.path)


def test_a_bundle_answers_without_its_search(run: RunFolder, data: Data, tmp_path: Path) -> None:
    members = tuple(load_trained(run.trial_folder(number)) for number in (0, 1))
    model = Model(members, (0.25, 0.75), "average", ("identity", "turn_90"), 1.5)
    (run.path / "ensemble.json").write_text(json.dumps(describe_model(model, run.path)))
    write_bundle(run.path, tmp_path / "bundle")
    expected = model.probabilities(raw(data, 1))
    shutil.rmtree(run.path)
    assert torch.equal(load_model(tmp_path / "bundle").probabilities(raw(data, 1)), expected)


def test_a_search_without_ensemble_gives_its_best_trial(run: RunFolder, tmp_path: Path) -> None:
    assert load_model(run.path).members[0].folder == run.trial_folder(0)
    with pytest.raises(RunError, match="choose another trial"):
        load_model(tmp_path)


def test_what_is_no_model_is_refused(run: RunFolder) -> None:
    one = load_trained(run.trial_folder(0))
    with pytest.raises(ConfigError, match="1 members have 2 weights"):
        Model((one,), (0.5, 0.5))
    with pytest.raises(ConfigError, match="Did you mean 'turn_90'"):
        Model((one,), (1.0,), tta=("turn90",))
    with pytest.raises(ConfigError, match="Did you mean 'average'"):
        Model((one,), (1.0,), vote="averaged")  # type: ignore[arg-type]
