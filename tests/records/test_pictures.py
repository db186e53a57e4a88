"""Figures exist, are PNGs of a sensible size, and show what they should."""

from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.config import Objective
from raysearch.records import confusion, gallery, pictures, predictions
from raysearch.records.run_folder import RunFolder
from raysearch.records.style import class_colours
from tests.records import fakes
from tests.records.fakes import add_answers, add_epochs, add_predictions, add_trial


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
    np.save(run.trial_folder(1) / "confusion.npy", np.array([[9, 1, 0], [2, 3, 4], [0, 0, 0]]))
    for path in gallery.draw_search(run, fakes.study()):
        assert min(size(path)) > 300
    drawn = gallery.draw_trial(run, fakes.study(), run.trial(1))
    assert [path.name for path in drawn] == ["curves.png", "predictions.png", "confusion.png"]
    assert all(min(size(path)) > 200 for path in drawn)
    assert gallery.draw_trial(run, fakes.study(), run.trial(3)) == []
    assert not list(run.path.rglob(".*.png"))


def test_a_classification_is_drawn(run: RunFolder) -> None:
    study = fakes.classification([f"dish {number}" for number in range(40)])
    lines = [{"top1": 0.2, **{f"accuracy/dish {k}": 0.01 * k for k in range(30)}} for _ in range(2)]
    record = add_epochs(run, 0, study, lines)
    add_answers(run, 0)
    np.save(run.trial_folder(0) / "confusion.npy", np.eye(40, dtype=np.int64))
    drawn = gallery.draw_trial(run, study, record)
    assert [path.name for path in drawn] == ["curves.png", "predictions.png", "confusion.png"]
    assert all(min(size(path)) > 200 for path in drawn)
    assert pictures._shown_classes(record, study.what) == [f"dish {k}" for k in range(12)]


def test_answers_are_read_as_they_were_given(run: RunFolder) -> None:
    run.trial_folder(0).mkdir()
    add_answers(run, 0)
    first, second = gallery.read_answers(run.trial_folder(0) / "predictions.npz")
    assert (first.label, first.prediction, first.probability) == (1, 1, 0.75)
    assert (second.label, second.prediction) == (1, 2)
    assert first.image.shape == (24, 32, 3)


def test_shares_of_a_confusion_matrix() -> None:
    shares = confusion.shares(np.array([[3, 1], [0, 0]]))
    assert shares[0].tolist() == [0.75, 0.25]
    assert np.isnan(shares[1]).all()


def test_a_confusion_matrix_of_other_classes_is_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "confusion.npy"
    assert confusion.read_confusion(path, 2) is None
    np.save(path, np.eye(3, dtype=np.int64))
    assert confusion.read_confusion(path, 2) is None
    path.write_bytes(b"torn")
    assert confusion.read_confusion(path, 3) is None


def test_the_threshold_is_a_curve(run: RunFolder) -> None:
    study = fakes.water()
    lines = [{"f1": 0.4, "iou/land": 0.9, "iou/water": 0.3, "threshold": 0.2 * k} for k in (1, 2)]
    record = add_epochs(run, 0, study, lines)
    (path,) = gallery.draw_trial(run, study, record)
    with_it = path.read_bytes()
    for metrics in record.history:
        del metrics["threshold"]
    gallery.draw_trial(run, study, record)
    assert path.read_bytes() != with_it


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
    assert size(predictions.segmented([panel], classes, tmp_path / "a.png"))


def test_only_counted_pixels_are_errors() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    label = np.array([[1, 255, 0]], np.uint8)
    prediction = np.array([[2, 1, 0]], np.uint8)
    errors = predictions._errors(image, label, prediction, 255)
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
