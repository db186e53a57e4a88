"""Models that are chosen on validation images, and what they are measured by."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from raysearch.config import Objective, Study
from raysearch.data import Data, open_data
from raysearch.data.batch import as_tensor
from raysearch.errors import ConfigError
from raysearch.inference.choose import MODEL, choose, measurable
from raysearch.inference.compare import Asked, Stored, measure
from raysearch.inference.evaluation import evaluate
from raysearch.inference.models import Model, load_model
from raysearch.inference.postprocess import STAGES, described
from raysearch.inference.probabilities import Probabilities, candidates, compute_all
from raysearch.inference.selection import Limits
from raysearch.inference.tta import Views
from raysearch.models import build
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training import checkpoint
from raysearch.training.history import append_epoch
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained, description, load_trained
from tests.data.voc_miniature import write_lists, write_root
from tests.inference.conftest import NETWORK, searched, tiny, trained
from tests.records.fakes import common

CPU = torch.device("cpu")
ROWS = ["single", "single + TTA", "ensemble", "ensemble + TTA"]


def opened(study: Study) -> Data:
    assert study.data.path is not None
    assert study.resources.cache is not None
    return open_data(study.data, study.data.path, study.resources.cache, seed=0)


@pytest.fixture
def study(run: RunFolder) -> Study:
    return load_study(str(run.study_file))


@pytest.fixture
def data(study: Study) -> Data:
    return opened(study)


def asked(run: RunFolder, data: Data) -> list[Probabilities]:
    found = compute_all(candidates(run.path), data, "val", CPU)
    return sorted(found, key=lambda one: one.candidate.name)


def test_nothing_that_is_chosen_is_worse(run: RunFolder, data: Data, study: Study) -> None:
    for number in (3, 4, 5):
        trained(run, number, study, miou=0.1)
    found = asked(run, data)
    chosen = choose(found, data, study.what, study.objective, Limits(), CPU)
    value = {name: one.metrics["miou"] for name, one in chosen.validation.items()}
    assert list(chosen.rows) == ROWS
    assert value["single"] == pytest.approx(max(one.metrics["miou"] for one in found))
    assert value["ensemble"] >= value["single"] - 1e-3
    assert value[MODEL] >= value["ensemble"] - 1e-9
    assert set(chosen.tried) == {"members", "tta", "temperature", "postprocessing", "compared"}
    votes = {name.partition(": ")[2] for name in chosen.tried["members"]}
    assert votes <= {"", "average", "by score", "confidence", "majority"}
    told = chosen.tried["compared"]
    assert (told["candidates"], told["images"]) == (5, 3)
    assert told["tta"] == len(chosen.tried["tta"])
    assert told["postprocessing"] == 1 + sum(len(stage) for stage in STAGES)
    assert sum(chosen.model.weights) == pytest.approx(1)
    assert len({member.folder for member in chosen.model.members}) == len(chosen.model.members)


def test_no_majority_of_members_that_one_outvotes(run: RunFolder, data: Data, study: Study) -> None:
    two = asked(run, data)[:2]
    tried = choose(two, data, study.what, study.objective, Limits(), CPU).tried["members"]
    assert any("average" in name for name in tried)
    assert not any("majority" in name for name in tried)


def test_views_that_cost_too_much_are_not_tried(run: RunFolder, data: Data, study: Study) -> None:
    found = [replace(one, seconds_per_image=0.01) for one in asked(run, data)]
    told = choose(found, data, study.what, study.objective, Limits(milliseconds=20.0), CPU)
    assert "single: identity, flip_horizontal" in told.tried["tta"]
    assert not any("turn_180" in name for name in told.tried["tta"])
    with pytest.raises(ConfigError, match="no trial is within the limits"):
        choose(found, data, study.what, study.objective, Limits(milliseconds=5.0), CPU)


def test_views_on_request_are_tried_beside_the_fixed_ones(
    run: RunFolder, data: Data, study: Study
) -> None:
    found = [replace(one, seconds_per_image=0.01) for one in asked(run, data)]
    views = Views(scales=(0.5, 2.0), draws=2, seed=1)
    told = choose(found, data, study.what, study.objective, Limits(), CPU, views=views)
    fixed = choose(found, data, study.what, study.objective, Limits(), CPU)
    drawn = views.sets(coloured=True)[-1]
    new = {f"single: {', '.join(one)}" for one in views.sets(coloured=True)[3:]}
    assert told.tried["tta"].keys() - fixed.tried["tta"].keys() >= new
    assert f"single: {', '.join(drawn)}" in new
    assert max(told.tried["tta"].values()) >= max(fixed.tried["tta"].values())
    again = choose(found, data, study.what, study.objective, Limits(), CPU, views=views)
    assert again.tried == told.tried
    narrow = Limits(milliseconds=40.0)  # Twice the scale costs four times, half of it a quarter.
    cheap = choose(found, data, study.what, study.objective, narrow, CPU, views=views)
    assert not any("scale_2" in name for name in cheap.tried["tta"])
    assert any("flip_vertical" in name for name in cheap.tried["tta"])
    half = Views(scales=(0.5,))
    cheap = choose(found, data, study.what, study.objective, narrow, CPU, views=half)
    assert "single: identity, scale_0.5" in cheap.tried["tta"]


def test_a_network_of_one_size_is_not_asked_about_scales(
    run: RunFolder, data: Data, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_one_size(trained: Trained, images: Tensor) -> Tensor:
        assert images.shape[-1] <= 32, "only 32 x 32"
        return whole(trained, images)

    whole = Trained.logits
    monkeypatch.setattr(Trained, "logits", of_one_size)
    said: list[str] = []
    told = choose(
        asked(run, data)[:1], data, study.what, study.objective, Limits(), CPU, said.append,
        Views(scales=(2.0,)),
    )  # fmt: skip
    assert not any("scale" in name for name in told.tried["tta"])
    assert "left out, as a network takes no such size: flip_horizontal+scale_2, scale_2" in said


def test_cleaning_is_chosen_without_asking_networks_again(
    run: RunFolder, data: Data, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What helps is kept, and its figures are those of the model itself."""
    times: list[str] = []

    def counted(self: Asked, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        times.append(name)
        return plain(self, member, name, indices)

    plain = Asked.__call__
    monkeypatch.setattr(Asked, "__call__", counted)
    chosen = choose(asked(run, data), data, study.what, study.objective, Limits(), CPU)
    model = chosen.model
    places = {m.place for m in (*chosen.rows["single"].members, *chosen.rows["ensemble"].members)}
    assert len(times) <= 3 * (6 * (1 + len(places)) + len(model.members) * len(model.tta))
    assert model.postprocessing, "random networks are full of specks"
    live = measure({"": model}, data, "val", Asked(data, CPU))[""]
    told = chosen.validation[MODEL]
    assert live.metrics == pytest.approx(told.metrics)
    assert (live.confusion == told.confusion).all()
    assert live.nll == pytest.approx(told.nll)
    assert live.tallies.bootstrap() == told.tallies.bootstrap()
    values = chosen.tried["postprocessing"]
    assert max(values.values()) == pytest.approx(told.metrics["miou"])
    assert values["none"] < values[described(model.postprocessing)]


def test_networks_alone_share_threads_where_that_helps(run: RunFolder, data: Data) -> None:
    counts: list[int] = []

    class Watched(Asked):
        def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
            counts.append(torch.get_num_threads())
            logits = super().__call__(member, name, indices)
            counts.append(torch.get_num_threads())
            return logits

    before = torch.get_num_threads()
    model = load_model(run.trial_folder(0))
    logits = model.members[0].network.forward
    inside: list[int] = []

    def forward(images: Tensor) -> object:
        inside.append(torch.get_num_threads())
        return logits(images)

    model.members[0].network.forward = forward
    try:
        torch.set_num_threads(2)
        measure({"": model}, data, "val", Watched(data, CPU))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(counts) == {1}
    assert set(inside) == {1, 2}
    assert len(set(inside[7:])) == 1  # After one to warm up, and three of each.


def test_members_are_compared_on_evenly_spaced_pixels(run: RunFolder, data: Data) -> None:
    model = load_model(run.trial_folder(0))
    of_place = {one.candidate.place: one for one in asked(run, data)}
    coarse = measure({"": model}, data, "val", Stored(of_place, data, "val", step=2))[""]
    table = torch.zeros(3, 3, dtype=torch.long)
    for index in data.indices("val"):
        ids = model.classes(model.probabilities(as_tensor(data.cache.image(index))[None]))[0]
        mask = torch.from_numpy(data.cache.mask(index).copy()).long()
        mask, ids = mask[1::2, 1::2], ids[1::2, 1::2]
        known = mask != 255
        table += torch.bincount(mask[known] * 3 + ids[known], minlength=9).view(3, 3)
    assert np.abs(coarse.confusion - table.numpy()).sum() <= 4  # Of answers in float16.
    assert coarse.confusion.sum() == table.sum()


def test_what_does_not_help_is_left_out(run: RunFolder, data: Data, study: Study) -> None:
    """Networks that see nothing gain nothing from views, cleaning or each other."""
    found = asked(run, data)[:1]
    one = load_trained(run.trial_folder(0))
    for parameter in one.network.parameters():
        parameter.data.zero_()
    one.network.network.head.bias.data[0] = 3.0  # type: ignore[union-attr]
    state = {key: value.clone() for key, value in one.network.state_dict().items()}
    told = description(NETWORK, one.task, one.recipe, one.normalise)
    checkpoint.save(run.trial_folder(0) / "best", 1, state, metrics=one.metrics, model=told, keep=1)
    found = asked(run, data)[:1]
    chosen = choose(found, data, study.what, study.objective, Limits(), CPU)
    assert chosen.model.tta == ("identity",)
    assert chosen.model.postprocessing == {}
    assert len(chosen.model.members) == 1
    assert chosen.diversity == 0.0


def test_one_pass_measures_as_the_evaluation_does(run: RunFolder, data: Data, study: Study) -> None:
    model = load_model(run.trial_folder(0))
    both = Model(tuple(load_trained(run.trial_folder(n)) for n in (0, 1)), (0.5, 0.5))
    models = {"one": model, "both": both, "views": replace(both, tta=("identity", "turn_90"))}
    source = Asked(data, CPU)
    found = measure(models, data, "test", source)
    alone = evaluate(model.members[0], data, "test", CPU)
    assert found["one"].metrics == pytest.approx(alone.metrics)
    for name, ends in found["one"].tallies.bootstrap().items():
        assert ends == pytest.approx(alone.intervals[name])
    assert (found["one"].confusion == alone.confusion).all()
    assert {len(times) for times in source.seconds.values()} == {len(data.indices("test"))}
    seconds = [found[name].seconds_per_image for name in models]
    assert all(one is not None for one in seconds)
    assert seconds == sorted(seconds)  # type: ignore[type-var]


def test_disk_and_network_say_the_same(run: RunFolder, data: Data) -> None:
    both = Model(
        tuple(load_trained(run.trial_folder(n)) for n in (0, 1)), (0.7, 0.3), temperature=2.0
    )
    of_place = {one.candidate.place: one for one in asked(run, data)}
    stored = measure({"": both}, data, "val", Stored(of_place, data, "val"))[""]
    live = measure({"": both}, data, "val", Asked(data, CPU))[""]
    assert stored.metrics["pixel_accuracy"] == pytest.approx(
        live.metrics["pixel_accuracy"], abs=2e-3
    )
    assert stored.nll == pytest.approx(live.nll, abs=2e-3)
    assert stored.seconds_per_image is None


def test_cleaned_masks_are_what_is_measured(run: RunFolder, data: Data) -> None:
    model = load_model(run.trial_folder(0))
    cleaned = replace(model, postprocessing={"small_regions": 0.02, "holes": 0.02})
    found = measure({"plain": model, "cleaned": cleaned}, data, "val", Asked(data, CPU))
    again = torch.zeros(3, 3, dtype=torch.long)
    for index in data.indices("val"):
        image = as_tensor(data.cache.image(index))[None]
        ids = cleaned.classes(cleaned.probabilities(image))[0]
        mask = torch.from_numpy(data.cache.mask(index).copy()).long()
        known = mask != 255
        again += torch.bincount(mask[known] * 3 + ids[known], minlength=9).view(3, 3)
    assert (found["cleaned"].confusion == again.numpy()).all()
    assert (found["plain"].confusion != again.numpy()).any()


def test_metrics_of_training_give_way_to_the_headline(study: Study) -> None:
    task = study.what
    assert measurable(Objective(metric="val_loss"), task).metric == "miou"
    assert measurable(Objective(metric="iou/cat"), task).metric in ("iou/cat", "miou")
    assert measurable(Objective(metric="lowest_iou"), task).metric == "lowest_iou"


def test_a_two_class_model_has_its_threshold_from_validation(tmp_path: Path) -> None:
    root = tmp_path / "cats"
    names = write_root(root, [1] * 8)
    write_lists(root, train=names[:4], val=names[4:6], test=names[6:])
    (root / "labelmap.txt").write_text("background:0,0,0::\ncat:224,64,64::\n")
    data = {"format": "voc", "path": root, "classes": ["background", "cat"]}
    study = tiny(root, tmp_path / "cache", data=data, objective={"metric": "f1"})
    run = searched(tmp_path / "results", study)
    for number in range(2):
        trained(run, number, study, f1=0.5, threshold=0.25, max_probability=0.75)
    opened_data = opened(study)
    chosen = choose(
        asked(run, opened_data), opened_data, study.what, study.objective, Limits(), CPU
    )
    for model in (chosen.model, *chosen.rows.values()):
        assert model.threshold is not None
        assert 0 < model.threshold < 1
    found = measure({"": chosen.model}, opened_data, "val", Asked(opened_data, CPU))[""]
    assert found.metrics["positive_iou"] == pytest.approx(
        chosen.validation[MODEL].metrics["positive_iou"]
    )
    assert found.metrics["f1"] == pytest.approx(chosen.validation[MODEL].metrics["f1"])
    assert "f1" in found.tallies.bootstrap()


def test_classified_images_make_an_ensemble(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number, name in enumerate(("apple", "bread")):
            folder = tmp_path / "dishes" / split / name
            folder.mkdir(parents=True)
            for at in range(3):
                colour = (90 * number + 20 * at, 7 * len(split), 100 - 30 * at)
                Image.new("RGB", (40 + at, 32), colour).save(folder / f"{at}.png")
    spec = {"type": "timm", "model": "test_resnet"}
    study = Study.model_validate(
        {
            "name": "dishes",
            "task": "classification",
            "data": {"format": "class_folders", "path": tmp_path / "dishes",
                     "classes": ["apple", "bread"]},
            "networks": {"small": spec},
            "fixed": {"architecture": "small", "image_size": 32, "batch_size": 4},
            "budget": {"trials": 1, "epochs": 2},
            "resources": {"cache": tmp_path / "cache"},
        }
    )  # fmt: skip
    run = searched(tmp_path / "results", study)
    for number in range(3):
        recipe, line = study.recipe({}), common(1) | {"top1": 0.5}
        run.begin_trial(number, recipe)
        append_epoch(run.trial_folder(number), line)
        run.end_trial(number, "completed", "max epochs", study.objective)
        torch.manual_seed(number)
        network = build(spec, study.what)
        told = description(
            spec, study.what, recipe, Normalisation(torch.zeros(3), torch.full((3,), 255.0))
        )
        state = network.state_dict()
        checkpoint.save(run.trial_folder(number) / "best", 1, state, metrics=line, model=told)
    data = opened(study)
    found = asked(run, data)
    assert found[0].image(0).shape == (1, 2)
    chosen = choose(found, data, study.what, study.objective, Limits(), CPU)
    best = max(one.metrics["top1"] for one in found)
    assert chosen.validation[MODEL].metrics["top1"] >= best - 1e-9
    assert "top5" in chosen.validation["single"].metrics
    alone = choose(found[:1], data, study.what, study.objective, Limits(), CPU)
    assert alone.tried["temperature"]["gain"] != 0
    tested = measure(chosen.rows, data, "test", Asked(data, CPU))
    assert len(tested["single"].tallies) == 6
    assert tested["ensemble"].tallies.difference(tested["single"].tallies).keys() >= {"top1"}
