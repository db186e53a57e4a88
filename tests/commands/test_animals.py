"""The shipped animals study on its generated sample data: what is good wins, and clearly."""

from pathlib import Path

import pytest
import yaml

from raysearch.study import find, read_yaml

from .conftest import Workplace

PLANTED = {
    "architecture": "fpn_efficientnet_b3", "loss": "focal", "focal_alpha": 0.5, "focal_gamma": 4.0,
    "learning_rate": 1e-4, "batch_size": 12, "boundary_weight": 0.5, "augment_strength": 2.0,
    "schedule": "multistep",
}  # fmt: skip
BAD = 1


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output folder, so that the sample data are generated once."""
    return tmp_path_factory.mktemp("animals")


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_the_shipped_start_point_beats_a_planted_bad_one(
    workplace: Workplace, output: Path, seed: int
) -> None:
    raw = read_yaml(find("animals"))
    raw["start"] = [raw["start"][0], PLANTED]
    path = workplace.path / "animals.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    options = ["--profile", "quick", "--trials", "2", "--epochs", "5", "--minutes", "9"]
    options += ["--set", "budget.first_rung=1", "--set", f"resources.cache={output / 'cache'}"]
    workplace.tune(*options, "--seed", str(seed), "--output", str(output), study=str(path))
    workplace.results = output / "animals"
    summary, board = workplace.summary(), workplace.leaderboard()
    assert set(board.state) == {"completed"}
    assert summary["best"]["trial"] != BAD
    assert summary["best"]["value"] >= 3 * summary["baseline"]["value"]
    assert board.miou.iloc[0] > 1.5 * board.miou.iloc[1]
