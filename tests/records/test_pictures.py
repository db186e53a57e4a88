"""Figures exist, are PNGs of a sensible size, and show what they should."""

from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.config import Objective
from raysearch.records import gallery, pictures
from raysearch.records.run_folder import RunFolder
from raysearch.records.style import class_colours
from tests.records import fakes
from tests.records.fakes import add_predictions, add_trial


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return image.size


def test_a_search_and_its_trials_are_drawn(run: RunFolder) -> None:
    add_trial(run, 0, 0.3)
    add_trial(run, 1, 0.5, architecture="resnet")
    add_trial(run, 2, 0.2, epochs=1, state="pruned")
    add_trial(run, 3, 0.2, epochs=0, state="failed")
    add_predictions(run, 1)
    for path in gallery.draw_search(run, fakes.study()):
        assert min(size(path)) > 300
    drawn = gallery.draw_trial(run, fakes.study(), run.trial(1))
    assert [path.name for path in drawn] == ["curves.png", "predictions.png"]
    assert all(min(size(path)) > 200 for path in drawn)
    assert gallery.draw_trial(run, fakes.study(), run.trial(3)) == []
    assert not list(run.path.rglob(".*.png"))


def test_nothing_to_draw_is_no_error(run: RunFolder) -> None:
    assert gallery.draw_search(run, fakes.study()) == []


def test_torn_predictions_cost_a_picture_only(run: RunFolder) -> None:
    add_trial(run, 0, 0.3)
    (run.trial_folder(0) / "predictions.npz").write_bytes(b"PK\x03\x04torn")
    drawn = gallery.draw_trial(run, fakes.study(), run.trial(0))
    assert [path.name for path in drawn] == ["curves.png"]


def test_one_band_and_many_classes(tmp_path: Path) -> None:
    label = np.arange(20, dtype=np.uint8).repeat(10).reshape(10, 20)
    panel = (np.zeros((10, 20, 1), np.uint8), label, np.flip(label))
    classes = [f"class {number}" for number in range(20)]
    assert size(pictures.predictions([panel], classes, tmp_path / "a.png"))


def test_only_counted_pixels_are_errors() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    label = np.array([[1, 255, 0]], np.uint8)
    prediction = np.array([[2, 1, 0]], np.uint8)
    errors = pictures._errors(image, label, prediction, 255)
    assert errors[0, 0, 0] > 2 * errors[0, 0, 1]
    assert (errors[0, 1] == 1).all()
    assert errors[0, 2, 0] == errors[0, 2, 1]


def test_classes_are_told_apart() -> None:
    colours = class_colours(12)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distances[~np.eye(12, dtype=bool)].min() > 0.15


def test_the_objective_may_be_a_loss(run: RunFolder, tmp_path: Path) -> None:
    record = add_trial(run, 0, 0.3)
    objective = Objective(metric="val_loss", mode="min")
    assert size(pictures.learning_curves([record], objective, tmp_path / "a.png"))
