"""`python -m raysearch.predict`, on a search as it was left."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from raysearch.config import Task
from raysearch.data import open_data, validation_batches
from raysearch.inference.files import data_of, find_images, read_picture
from raysearch.inference.models import load_model, write_bundle
from raysearch.inference.outputs import palette
from raysearch.models import build
from raysearch.predict import main
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training import checkpoint
from raysearch.training.history import append_epoch
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import description, load_trained
from tests.data.pairs_miniature import CLASSES, NO_DATA, odd_image, write_odd, write_tif
from tests.data.voc_miniature import random_image
from tests.inference.conftest import searched, tiny, trained
from tests.records.fakes import common

PLACE = {"crs": "EPSG:32648", "transform": Affine(10, 0, 500_000, 0, -10, 10_000)}


def call(run: RunFolder, output: Path, *arguments: str | Path) -> int:
    told = ["--output", str(output), "--device", "cpu", *map(str, arguments)]
    return main([str(run.path), *told])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ids(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        return np.array(mask)


def photograph(path: Path, shape: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_image(shape, seed)).save(path)
    return path


def as_validation(run: RunFolder) -> dict[Path, np.ndarray]:
    """The mask of each validation image as a search measures it."""
    study = load_study(str(run.study_file))
    assert study.data.path is not None
    assert study.resources.cache is not None
    data = open_data(study.data, study.data.path, study.resources.cache, seed=0)
    one = load_trained(run.trial_folder(0))
    masks = {}
    for batch in validation_batches(data, one.recipe):
        for index, logits, _mask in batch.native(one.logits(batch.images)):
            name = data.cache.names[index]
            file = study.data.path / "JPEGImages" / f"{name}.png"
            masks[file] = logits.argmax(1)[0].numpy()
    return masks


def test_masks_are_those_of_validation(run: RunFolder, tmp_path: Path) -> None:
    expected = as_validation(run)
    assert call(run, tmp_path / "out", *expected) == 0
    for file, mask in expected.items():
        with Image.open(tmp_path / "out" / f"{file.stem}.png") as found:
            assert found.mode == "L"
            assert np.array_equal(np.array(found), mask)
    rows = table(tmp_path / "out" / "classes.csv")
    assert len(rows) == 3 * len(expected)
    first = next(iter(expected))
    mine = {row["class"]: int(row["pixels"]) for row in rows if row["image"] == str(first)}
    assert list(mine.values()) == np.bincount(expected[first].ravel(), minlength=3).tolist()
    assert sum(float(row["share"]) for row in rows) == pytest.approx(len(expected), abs=1e-4)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]


def test_folders_and_patterns_and_names(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/deep/1.png", "b/1.png", "b/1.jpg", "b/.hidden.png", "out/1.png"):
        photograph(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    out = tmp_path / "out"
    whole = [image.name for image in find_images([str(tmp_path)], out)]
    assert whole == ["a/1", "a/deep/1", "b/1_jpg", "b/1_png"]
    some = find_images([str(tmp_path / "*" / "1.png"), str(tmp_path / "a" / "1.png")], out)
    assert [image.name for image in some] == ["1_png", "1_png_2"]
    assert [image.path.parent.name for image in some] == ["a", "b"]
    (lost,) = find_images([str(tmp_path / "none" / "*.png")], out)
    assert lost.name == "*"


def test_what_cannot_be_read_is_told_and_the_rest_is_written(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [photograph(tmp_path / "in" / f"{n}.png", seed=n) for n in range(3)]
    whole = good[1].read_bytes()
    good[1].write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    missing = tmp_path / "missing.png"
    assert call(run, tmp_path / "out", tmp_path / "in", missing) == 1
    said = capsys.readouterr()
    for name in ("1.png", "text.jpg", "missing.png"):
        assert name in said.err
    assert "2 written" in said.out
    assert "3 skipped" in said.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "2.png", "classes.csv"}
    assert len(table(tmp_path / "out" / "classes.csv")) == 6


def test_nothing_but_what_cannot_be_read(run: RunFolder, tmp_path: Path) -> None:
    assert call(run, tmp_path / "out", tmp_path / "missing.png") == 1
    (tmp_path / "empty").mkdir()
    assert call(run, tmp_path / "out", tmp_path / "empty") == 2


def test_palette_overlay_and_probabilities(run: RunFolder, tmp_path: Path) -> None:
    file = photograph(tmp_path / "1.png", (70, 90))
    out = tmp_path / "out"
    assert call(run, out, file, "--palette", "--overlay", "--probabilities") == 0
    task = load_model(run.path).task
    with Image.open(out / "1.png") as mask, Image.open(out / "1_overlay.jpg") as overlay:
        assert mask.mode == "P"
        colours = np.array(mask.getpalette("RGB")).reshape(-1, 3)
        assert np.array_equal(colours[:3], palette(task)[:3])
        assert overlay.size == (90, 70)
    with rasterio.open(out / "1_probabilities.tif") as raster:
        told = raster.read()
        assert raster.descriptions == task.classes
    assert np.allclose(told.sum(0), 1, atol=1e-5)
    assert np.array_equal(told.argmax(0), ids(out / "1.png"))


def test_tiles_and_mirrors_and_a_trial(run: RunFolder, tmp_path: Path) -> None:
    file = photograph(tmp_path / "1.png", (150, 170))
    seen = {}
    for name, *more in (
        ("whole",),
        ("tiled", "--tile", "64"),
        ("mirrored", "--tta"),
        ("small", "--size", "96"),
    ):
        assert call(run, tmp_path / name, file, "--probabilities", *more) == 0
        with rasterio.open(tmp_path / name / "1_probabilities.tif") as raster:
            seen[name] = raster.read()
    for name in ("tiled", "mirrored", "small"):
        assert not np.allclose(seen[name], seen["whole"], atol=1e-4)
    trial = run.trial_folder(1)
    assert main([str(trial), str(file), "--output", str(tmp_path / "1"), "--device", "cpu"]) == 0
    assert (tmp_path / "1" / "1.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "0.5"], "masks of two classes"),
        (["--tile", "100"], "multiple of 32"),
        (["--size", "8"], "32 or more"),
        (["--top-k", "0"], "1 or more"),
        (["--device", "warp"], "unknown"),
        (["--device", "cuda:77"], "is not here"),
    ],
)
def test_what_cannot_be_asked(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    file = photograph(tmp_path / "1.png")
    assert call(run, tmp_path / "out", file, *arguments) == 2
    assert words in capsys.readouterr().err


def test_an_ensemble_answers_where_there_is_one(run: RunFolder, tmp_path: Path) -> None:
    file = photograph(tmp_path / "1.png")
    told: dict[str, Any] = {
        "members": [{"place": f"trials/{n:04d}/best", "weight": 0.5} for n in (0, 1)],
        "vote": "average",
        "tta": ["identity", "turn_90"],
        "temperature": 2.0,
        "threshold": None,
        "postprocessing": {"small_regions": 0.05},
    }
    (run.path / "ensemble.json").write_text(json.dumps(told))
    assert call(run, tmp_path / "out", file) == 0
    model = load_model(run.path)
    image = torch.from_numpy(random_image((40, 48), 0)).permute(2, 0, 1)[None]
    expected = model.classes(model.probabilities(image))[0].numpy()
    assert np.array_equal(ids(tmp_path / "out" / "1.png"), expected)


@pytest.fixture
def satellite(tmp_path: Path) -> RunFolder:
    """A search for water in four bands of int16 with missing values."""
    data = {"format": "pairs", "classes": CLASSES, "bands": 4, "options": {"nodata": [NO_DATA]}}
    study = tiny(
        write_odd(tmp_path / "odd"),
        tmp_path / "cache",
        data={**data, "path": tmp_path / "odd"},
        objective={"metric": "f1"},
    )
    run = searched(tmp_path / "results", study)
    begun(run, study.what, study.recipe({}), f1=0.5, threshold=0.25)
    return run


def begun(run: RunFolder, task: Task, recipe: Any, spec: Any = None, **metrics: Any) -> None:
    """The first trial of a search, with random weights for any number of bands."""
    spec = spec or {"type": "unet", "width": 4, "depth": 2}
    run.begin_trial(0, recipe)
    line = common(1) | metrics
    append_epoch(run.trial_folder(0), line)
    run.end_trial(0, "completed", "max epochs", load_study(str(run.study_file)).objective)
    torch.manual_seed(0)
    network = build(spec, task)
    normalise = Normalisation(torch.zeros(task.bands), torch.full((task.bands,), 9000.0))
    told = description(spec, task, recipe, normalise)
    folder = run.trial_folder(0) / "best"
    checkpoint.save(folder, 1, network.state_dict(), metrics=line, model=told, keep=1)


def test_a_geotiff_keeps_its_place(satellite: RunFolder, tmp_path: Path) -> None:
    write_tif(tmp_path / "scene.tif", odd_image(0), **PLACE)
    out = tmp_path / "out"
    assert call(satellite, out, tmp_path / "scene.tif", "--palette", "--probabilities") == 0
    for name in ("scene.tif", "scene_probabilities.tif"):
        with rasterio.open(out / name) as raster:
            assert (raster.crs.to_epsg(), raster.transform) == (32648, PLACE["transform"])
            assert raster.shape == (20, 24)
    with rasterio.open(out / "scene.tif") as raster:
        mask, colours = raster.read(1), raster.colormap(1)
        assert raster.nodata == 255
    assert (mask == 255).sum() == 1
    assert mask[1, 1] == 255
    assert colours[1][:3] == (230, 159, 0)
    rows = table(out / "classes.csv")
    assert sum(int(row["pixels"]) for row in rows) == mask.size - 1


def test_ground_control_points_are_kept(satellite: RunFolder, tmp_path: Path) -> None:
    corners = ((0, 0), (0, 24), (20, 0), (20, 24))
    points = [GroundControlPoint(row, column, row * 0.1, column * 0.1) for row, column in corners]
    write_tif(tmp_path / "scene.tif", odd_image(0), gcps=points, crs="EPSG:4326")
    assert call(satellite, tmp_path / "out", tmp_path / "scene.tif") == 0
    with rasterio.open(tmp_path / "out" / "scene.tif") as raster:
        kept, system = raster.gcps
    assert len(kept) == 4
    assert system.to_epsg() == 4326


def test_the_threshold_decides_two_classes(satellite: RunFolder, tmp_path: Path) -> None:
    write_tif(tmp_path / "scene.tif", odd_image(0), **PLACE)
    shares = []
    for threshold in ("0", None, "1"):
        more = [] if threshold is None else ["--threshold", threshold]
        out = tmp_path / f"out{threshold}"
        assert call(satellite, out, tmp_path / "scene.tif", "--probabilities", *more) == 0
        shares.append([float(row["share"]) for row in table(out / "classes.csv")][1])
    with rasterio.open(tmp_path / "outNone" / "scene_probabilities.tif") as raster:
        water = raster.read(2)
    with rasterio.open(tmp_path / "outNone" / "scene.tif") as raster:
        mask = raster.read(1)
    known = mask != 255
    assert shares[0] == 1.0
    assert shares[2] == 0.0
    assert np.array_equal(mask[known] == 1, (water >= 0.25)[known])
    assert call(satellite, tmp_path / "out", tmp_path / "scene.tif", "--threshold", "2") == 2


def test_other_bands_than_the_studys(satellite: RunFolder, tmp_path: Path) -> None:
    write_tif(tmp_path / "scene.tif", odd_image(0)[..., :2])
    assert call(satellite, tmp_path / "out", tmp_path / "scene.tif") == 1


def test_a_picture_is_read_as_the_cache_holds_it(satellite: RunFolder) -> None:
    study = load_study(str(satellite.study_file))
    assert study.data.path is not None
    assert study.resources.cache is not None
    cache = open_data(study.data, study.data.path, study.resources.cache, seed=0).cache
    files = sorted((study.data.path / "train" / "imgs").glob("*.TIF"))
    data = data_of(satellite.path, study.what)
    for image in find_images([str(file) for file in files], satellite.path):
        found = read_picture(image, data, study.what)
        index = cache.index(f"train/{image.name}")
        assert np.allclose(found.pixels, cache.image(index))
        assert found.missing is not None
        assert found.missing.sum() == 1


def test_a_trial_out_of_its_search(satellite: RunFolder, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(satellite.trial_folder(0), alone)
    write_tif(tmp_path / "scene.tif", odd_image(0), **PLACE)
    told = [str(alone), str(tmp_path / "scene.tif"), "--output", str(tmp_path / "out")]
    assert main([*told, "--device", "cpu"]) == 0


@pytest.fixture
def dishes(tmp_path: Path) -> RunFolder:
    names = ("apple", "bread", "curry")
    for name in names:
        for number in range(4):
            photograph(tmp_path / "dishes" / name / f"{number}.png", seed=number)
    data = {"format": "class_folders", "classes": names, "path": tmp_path / "dishes"}
    fixed = {"architecture": "narrow", "image_size": 32, "batch_size": 4}
    networks = {"narrow": {"type": "timm", "model": "resnet10t", "encoder_weights": None}}
    study = tiny(
        tmp_path / "dishes",
        tmp_path / "cache",
        task="classification",
        data=data,
        fixed=fixed,
        networks=networks,
    )
    run = searched(tmp_path / "results", study)
    begun(run, study.what, study.recipe({}), networks["narrow"], top1=0.5)
    return run


def test_classes_of_images(dishes: RunFolder, tmp_path: Path) -> None:
    files = [photograph(tmp_path / "new" / f"{n}.jpg", (50, 40 + n // 2), n) for n in range(4)]
    out = tmp_path / "out"
    assert call(dishes, out, tmp_path / "new", "--top-k", "2", "--probabilities") == 0
    assert {path.name for path in out.iterdir()} == {"predictions.csv", "probabilities.csv"}
    rows, all_of = table(out / "predictions.csv"), table(out / "probabilities.csv")
    assert [(row["image"], row["rank"]) for row in rows[:2]] == [
        (str(files[0]), "1"),
        (str(files[0]), "2"),
    ]
    assert len(rows) == 8
    for row, whole in zip(rows[::2], all_of, strict=True):
        told = {name: float(value) for name, value in whole.items() if name != "image"}
        assert sum(told.values()) == pytest.approx(1, abs=1e-5)
        assert row["class"] == max(told, key=lambda name: told[name])
        assert float(row["probability"]) == max(told.values())


def test_masks_of_a_classification(
    dishes: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = photograph(tmp_path / "1.png")
    assert call(dishes, tmp_path / "out", file, "--overlay") == 2
    assert "--overlay: is for masks" in capsys.readouterr().err


def test_a_bundle_needs_no_search(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = photograph(tmp_path / "1.png")
    told: dict[str, Any] = {
        "members": [{"place": f"trials/{n:04d}/best", "weight": 0.5} for n in (0, 1)],
        "vote": "average", "tta": ["identity"], "temperature": 1.0, "threshold": None,
        "postprocessing": {},
    }  # fmt: skip
    (run.path / "ensemble.json").write_text(json.dumps(told))
    assert call(run, tmp_path / "out", file) == 0
    write_bundle(run.path, tmp_path / "bundle")
    shutil.rmtree(run.path)
    asked = [str(tmp_path / "bundle"), str(file), "--output", str(tmp_path / "again")]
    assert main([*asked, "--device", "cpu"]) == 0
    assert "2 networks together" in capsys.readouterr().out
    assert np.array_equal(ids(tmp_path / "out" / "1.png"), ids(tmp_path / "again" / "1.png"))


def test_the_search_is_found_by_name(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = photograph(tmp_path / "1.png", (200, 40))
    told = [str(file), "--output", str(tmp_path / "out"), "--results", str(run.output)]
    assert main([run.name, *told]) == 0
    assert main(["tinny", *told]) == 2
    assert "Did you mean 'tiny'?" in capsys.readouterr().err


def test_an_image_much_larger_than_crops_of_training(
    tmp_path: Path, left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load_study(str(next((left / "results" / "tiny").glob("*/study.yaml"))))
    fixed = {**study.fixed, "image_size": None}
    assert study.data.path is not None
    own = tiny(study.data.path, left / "cache", fixed=fixed)
    run = searched(tmp_path / "results", own)
    trained(run, 0, own, miou=0.5)
    file = photograph(tmp_path / "1.png", (100, 100))
    assert call(run, tmp_path / "out", file) == 0
    assert "add --size" in capsys.readouterr().out
    assert call(run, tmp_path / "out", file, "--size", "32") == 0
    assert "add --size" not in capsys.readouterr().out
