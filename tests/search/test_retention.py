"""The best epochs of the best trials stay, and what running trials resume from."""

from raysearch.config import Objective, Recipe
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.search.retention import delete_others, kept_trials


def record(number: int, value: float | None, architecture: str = "unet") -> TrialRecord:
    return TrialRecord(number, Recipe(architecture=architecture), "completed", value)


def test_the_best_twenty_stay_and_three_of_each_architecture() -> None:
    strong = [record(number, 0.9 - 0.01 * number) for number in range(25)]
    weak = [record(30 + number, 0.1 - 0.01 * number, "wide") for number in range(5)]
    failed = [record(40, None, "other")]
    assert kept_trials([*strong, *weak, *failed], Objective()) == {*range(20), 30, 31, 32}


def test_an_ended_trial_keeps_its_best_and_a_running_one_its_last(run: RunFolder) -> None:
    for number in range(2):
        run.begin_trial(number, Recipe(architecture="unet"))
        for kind in ("last", "best"):
            (run.trial_folder(number) / kind).mkdir()
    line = '{"epoch": 1, "miou": 0.5}\n'
    (run.trial_folder(0) / "metrics.jsonl").write_text(line, encoding="utf-8")
    run.end_trial(0, "completed", "max epochs", Objective())
    delete_others(run, Objective())
    left = [sorted(p.name for p in run.trial_folder(n).iterdir() if p.is_dir()) for n in range(2)]
    assert left == [["best"], ["best", "last"]]
