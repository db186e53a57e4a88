"""A search of two tiny networks with random weights, and the ensemble of them."""

from pathlib import Path
from typing import Any

from raysearch.records.ensemble import ensemble_run
from raysearch.records.files import read_json, write_json
from raysearch.records.run_folder import RunFolder
from tests.data.voc_miniature import write_plain
from tests.inference.conftest import searched, tiny, trained

FILE = "ensemble.json"


def with_ensemble(place: Path) -> RunFolder:
    study = tiny(write_plain(place / "voc"), place / "cache")
    run = searched(place / "results", study)
    trained(run, 0, study, miou=0.5, pixel_accuracy=0.9)
    trained(run, 1, study, miou=0.25, pixel_accuracy=0.8)
    ensemble_run(run, command="python -m raysearch.ensemble tiny")
    told = read_json(run.path / FILE)
    members = [
        {"trial": number, "run": None, "place": f"trials/000{number}/best", "weight": 0.5}
        for number in (0, 1)
    ]
    write_json(run.path / FILE, told | {"members": members})
    return run


def made_again(run: RunFolder, miou: float | None, **changes: Any) -> None:
    """Write ensemble.json as if another ensemble had been made, with this figure on test."""
    told = read_json(run.path / FILE)
    if miou is None:
        told["test"] = None
    else:
        told["test"]["rows"]["model"]["metrics"]["miou"] = miou
    write_json(run.path / FILE, told | {"when": told["when"] + 1} | changes)
