"""What the terminal says, in plain text and live."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysearch.config import Study
from raysearch.records.files import write_json
from raysearch.records.leaderboard import write_leaderboard, write_summary
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import (
    Network,
    Plan,
    Progress,
    make_console,
    show_next,
    show_plan,
    show_results,
)
from raysearch.records.terminal.evaluated import show_evaluation
from raysearch.records.terminal.gpu import describe
from raysearch.records.terminal.results import sparkline
from raysearch.records.terminal.text import duration
from tests.records import fakes
from tests.records.fakes import add_epochs, add_trial

BASELINE = {"name": "predicting background alone", "value": 0.1069}


def plain() -> Console:
    return make_console(file=io.StringIO())


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_plan_says_what_will_happen(tmp_path: Path) -> None:
    study = fakes.study()
    full = {"type": "smp", "decoder": "unet", "encoder": "efficientnet-b3"}
    networks = [
        Network("unet", study.networks["unet"], 31_000_000),
        Network("resnet", study.networks["resnet"], 9_000_000, replaces=full),
    ]
    plan = Plan(
        study=study,
        data_path=tmp_path / "photos",
        images={"train": 80, "val": 20, "test": 0},
        class_share={"background": 0.75, "cheetah": 0.2, "lion": 0.05},
        digest="0123456789abcdef",
        splits="official",
        networks=networks,
        rungs=[2],
        slots=2,
        per_trial="1 worker x 1 CPU",
        launcher="inline",
        device="CPU, float32",
        cluster="10.0.0.1:6379, 3 nodes for trials",
        output=tmp_path / "results",
        notes=["no GPU found: profile quick"],
    )
    console = plain()
    show_plan(console, plan)
    for said in (
        "no GPU found", "80 train, 20 val (official splits), digest 0123456789ab",
        "background 75 %, cheetah 20 %, lion 5 %", "unet: width 8 (31.0 M)",
        "quick replacement of smp: decoder unet, encoder efficientnet-b3",
        "0.0001 to 0.01, logarithmic", "focal | focal + 0.5*dice", "4 trials, up to 6 epochs",
        "at epoch 2", "in all 8 to 24 epochs", "2 trials at once", "launcher inline",
        "10.0.0.1:6379, 3 nodes for trials",
        "architecture unet, learning_rate 0.001, batch_size 6", str(tmp_path / "results"),
    ):  # fmt: skip
        assert said in text(console), said


def test_the_plan_of_many_classes_with_teachers_and_a_goal(tmp_path: Path) -> None:
    classes = [f"dish {number}" for number in range(101)]
    goal = {"metric": "top1", "target": 0.9, "stretch": 0.95}
    study = fakes.classification(
        classes,
        objective={"goal": goal, "expected": {"dish 7": (0.5, 0.6)}},
        init_from={"unet": "runs/trials/0003"},
        teachers=["a/0001", "b/0002"],
    )
    shares = {name: (number + 1) / 5151 for number, name in enumerate(classes)}
    console = plain()
    show_plan(console, plan_of(study, tmp_path, class_share=shares))
    said = " ".join(text(console).split())
    for part in (
        "study classification, profile quick",
        "101 classes, from dish 0 0.0194 % to dish 100 1.96 %",
        "begin with unet weights of runs/trials/0003", "teachers a/0001 b/0002",
        "top1, highest wins", "top1 0.90 ends the search, stretch 0.95",
        "accuracy expected of 1 of 101 classes",
    ):  # fmt: skip
        assert part in said, part
    assert "dish 50" not in said


def plan_of(study: Study, folder: Path, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "study": study,
        "data_path": folder,
        "images": {"train": 80, "val": 20, "test": 0},
        "class_share": {},
        "digest": "0123456789abcdef",
        "splits": "official",
        "networks": [],
        "rungs": [2],
        "slots": 2,
        "per_trial": "1 worker x 1 CPU",
        "launcher": "inline",
        "device": "CPU, float32",
        "output": folder,
    }
    return Plan(**values | changes)


def test_reaching_the_goal_is_said_at_once(run: RunFolder) -> None:
    goal = {"metric": "pixel_accuracy", "target": 0.7, "stretch": 0.9}
    study = fakes.study(objective={"goal": goal})
    console = plain()
    progress = Progress(console, slots=1)
    progress.search_started(run, study)
    progress.trial_ended(add_trial(run, 0, 0.5))
    progress.close()
    assert "target reached" in text(console)


def test_sparse_lines_where_there_is_no_terminal(run: RunFolder) -> None:
    add_trial(run, 0, 0.3)
    console = plain()
    progress = Progress(console, slots=1, heartbeat=0)
    progress.search_started(run, fakes.study())
    record = add_trial(run, 1, 0.5, epochs=2, state="running")
    progress.trial_started(record)
    assert progress.time_left() is not None
    progress.epoch(1, record.history[-1])
    progress.trial_ended(add_trial(run, 1, 0.5, architecture="resnet"))
    progress.search_ended({})
    lines = text(console).splitlines()
    assert len(lines) == 2
    assert "trial 1 unet epoch 2/6 miou 0.3161" in lines[0]
    assert "best miou 0.3161 (trial 1, unet)" in lines[0]
    assert lines[1].startswith("2/4 trial   1 resnet  completed  miou 0.3884  3 epochs  30 s")
    assert "\x1b" not in text(console)


def test_a_resumed_trial_shows_where_it_was(run: RunFolder) -> None:
    console = plain()
    progress = Progress(console, slots=2, heartbeat=0)
    resumed, other = (add_trial(run, n, 0.5, epochs=2, state="running") for n in (0, 1))
    progress.search_started(run, fakes.study())
    progress.trial_started(resumed)
    progress.trial_started(other)
    progress.epoch(1, other.history[-1])
    assert "trial 0 unet epoch 2/6 miou 0.3161; trial 1 unet epoch 2/6" in text(console)


def test_a_heartbeat_waits_its_time(run: RunFolder) -> None:
    console = plain()
    progress = Progress(console, slots=1, heartbeat=60)
    progress.search_started(run, fakes.study())
    record = add_trial(run, 0, 0.5, state="running")
    progress.trial_started(record)
    for metrics in record.history:
        progress.epoch(0, metrics)
    assert text(console) == ""


def test_the_live_view(run: RunFolder) -> None:
    console = make_console(file=io.StringIO(), force_terminal=True, width=120)
    progress = Progress(console, slots=2)
    progress.search_started(run, fakes.study(budget={"trials": 4, "epochs": 6, "minutes": 10}))
    record = add_trial(run, 0, 0.5, state="running")
    progress.trial_started(record)
    progress.epoch(0, record.history[-1] | {"images_per_second": 12.34})
    progress.close()
    progress.close()
    view = plain()
    view.print(progress.render())
    said = text(view)
    for part in ("miou 0.3884 (trial 0, unet)", "1 of 4: 1 running", "3/6", "12.3", "slots busy"):
        assert part in said
    assert progress.busy_share == 1.0
    left = progress.time_left()
    assert left is not None
    assert 0 <= left <= 600


def test_results_show_the_search(run: RunFolder) -> None:
    study = fakes.study()
    for number in range(12):
        add_trial(run, number, 0.3 + number / 100, learning_rate=1e-3 * (1 + number))
    add_trial(run, 12, 0.9, state="failed")
    folder = run.trial_folder(12)
    (folder / "error.txt").write_text("Traceback ...\nValueError: no [such] thing\n")
    run.describe(started=fakes.STARTED)
    write_leaderboard(run, study)
    write_summary(run, study, seconds=3600, busy_share=0.91, baseline=BASELINE)
    console = plain()
    show_results(console, run, study)
    show_next(console, run, study)
    said = text(console)
    assert "the best 10 of 13 trials" in said
    assert "ValueError: no [such] thing" in said
    assert "no journal yet" in said
    assert "predicting background alone: 0.1069" in said
    assert "60 min, slots busy 91%" in said
    assert "leaderboard.csv, best.yaml" in said
    assert f"runs show {run.name} --output" in said
    assert "--resume" in said
    assert "learning rate" in said
    assert "lowest IoU" in said
    assert f"raysearch.evaluate {run.name}" in said


def results(run: RunFolder, study: Study, without: Sequence[str] = (), **more: Any) -> str:
    write_leaderboard(run, study)
    write_summary(run, study, seconds=3600, busy_share=None, **more)
    console = plain()
    show_results(console, run, study, without)
    show_next(console, run, study)
    return text(console)


def test_results_of_a_classification(run: RunFolder) -> None:
    study = fakes.classification()
    scores = {"accuracy/apple": 0.9, "accuracy/bread": 0.5, "accuracy/curry": 0.25}
    metrics = {"top1": 0.55, "top5": 0.9375, "train_accuracy": 0.97, "accuracy_gap": 0.42}
    add_epochs(run, 0, study, [{**metrics, **scores}])
    baseline = {"name": "always the most frequent class", "value": 0.4}
    said = results(run, study, ["curry"], baseline=baseline)
    assert "top5" in said
    assert "0.9375" in said
    assert "always the most frequent class: 0.4000" in said
    assert "0.9700 in training, 0.5500 in validation: a large gap of 0.42" in said
    assert "mean accuracy without curry: 0.7000" in said
    assert "threshold" not in said


def test_results_of_a_search_for_one_class(run: RunFolder) -> None:
    study = fakes.water()
    positive = {"f1": 0.6, "precision": 0.71, "recall": 0.52, "positive_iou": 0.43}
    tuned = {"threshold": 0.37, "max_probability": 0.88, "train_accuracy": 0.9}
    add_epochs(run, 0, study, [{**positive, **tuned, "accuracy_gap": 0.01}])
    said = results(run, study)
    for part in ("precision", "0.7100", "0.5200", "positive IoU", "0.4300"):
        assert part in said, part
    assert "0.37, tuned on validation, highest probability 0.8800" in said
    assert "0.9000 in training, 0.8900 in validation" in said
    assert "large" not in said


def test_expectations_stand_beside_the_classes(run: RunFolder) -> None:
    expected = {"background": (0.9, 0.98), "cheetah": (0.5, 0.7), "lion": (0.2, 0.3)}
    study = fakes.study(objective={"expected": expected})
    scores = {"iou/background": 0.95, "iou/cheetah": 0.4, "iou/lion": 0.35}
    add_epochs(run, 0, study, [{"miou": 0.57, "lowest_iou": 0.35, **scores}])
    said = results(run, study)
    assert "2/3 met" in said
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert lines["background"][-4:] == ["0.9", "to", "0.98", "met"]
    assert lines["cheetah"][-1] == "short"
    assert lines["lion"][-1] == "above"


def test_a_class_that_was_not_measured_misses_its_expectation(run: RunFolder) -> None:
    study = fakes.study(objective={"expected": {"lion": (0.2, 0.3)}})
    add_epochs(run, 0, study, [{"miou": 0.57, "lowest_iou": 0.35, "iou/background": 0.9}])
    said = results(run, study)
    assert "0/1 met" in said
    assert "not measured" in said


def test_of_many_classes_the_worst_and_the_best_are_named(run: RunFolder) -> None:
    classes = [f"dish-{number:02d}" for number in range(40)]
    expected = {"dish-20": (0.5, 0.6)}
    study = fakes.classification(classes, objective={"expected": expected})
    scores = {f"accuracy/{name}": 0.02 * k for k, name in enumerate(classes)}
    add_epochs(run, 0, study, [{"top1": 0.4, "top5": 0.8, **scores}])
    said = results(run, study)
    named = [line.split()[0] for line in said.splitlines() if line.startswith("dish-")]
    assert named == [*classes[:5], *classes[-5:], "dish-20"]
    assert "... 40 in all" in said


@pytest.mark.parametrize(
    ("target", "stretch", "told"),
    [
        (0.7, 0.95, "target 0.70 of pixel_accuracy reached by trial 0 at epoch 2, 20 s into the "
         "search (stretch 0.95 not reached)"),
        (0.625, 0.75, "(stretch 0.75 reached by trial 0 at epoch 2, 20 s into the search)"),
        (0.9, None, "target 0.90 of pixel_accuracy not reached, the most is 0.8000"),
    ],
)  # fmt: skip
def test_the_goal_and_who_reached_it(
    run: RunFolder, target: float, stretch: float | None, told: str
) -> None:
    goal = {"metric": "pixel_accuracy", "target": target, "stretch": stretch}
    study = fakes.study(objective={"goal": goal})
    add_epochs(run, 0, study, [{"miou": 0.4, "pixel_accuracy": v} for v in (0.65, 0.8)])
    run.describe(started=fakes.STARTED)
    assert told in " ".join(results(run, study).split())


def test_what_the_test_split_gave_is_repeated(run: RunFolder) -> None:
    add_trial(run, 0, 0.3)
    measured = {"metrics": {"miou": 0.21}, "intervals": {"miou": [0.1, 0.3]}, "wilson": {}}
    write_json(run.test_file, {**measured, "trial": 0, "images": 12})
    said = results(run, fakes.study())
    assert "miou 0.2100 (95 % 0.1000 to 0.3000), trial 0, 12 images" in said
    assert "raysearch.evaluate" not in said


def test_a_measured_classification_has_both_intervals() -> None:
    study, console = fakes.classification(), plain()
    told = {
        "run": "animals/1", "trial": 3, "architecture": "unet", "epoch": 7, "images": 40,
        "split": "test", "data": "photos", "opened": 3, "seconds_per_image": 0.0125,
        "device": "cpu", "threshold": None, "metrics": {"top1": 0.5, "accuracy/bread": 0.25},
        "intervals": {"top1": [0.375, 0.625]}, "drop": {"top1": 0.125},
        "validation": {"top1": 0.625}, "wilson": {"top1": [0.35, 0.65], "accuracy/bread": [0, 0.5]},
    }  # fmt: skip
    show_evaluation(console, study, told)
    said = text(console)
    (row,) = [line.split() for line in said.splitlines() if line.startswith("top1  ")]
    assert row == ["top1", "0.5000", "0.3750", "to", "0.6250", "0.6250", "+0.1250"]
    assert "top1: Wilson's 95 % interval 0.3500 to 0.6500" in said
    assert "opened 3 times" in said
    assert "12.5 ms an image on cpu" in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("bread")]
    assert row[-3:] == ["0.000", "to", "0.500"]


def test_an_official_search_is_not_offered_its_test(run: RunFolder) -> None:
    run.describe(splits="official")
    add_trial(run, 0, 0.3)
    assert "raysearch.evaluate" not in results(run, fakes.study())


def test_results_of_nothing(run: RunFolder) -> None:
    console = plain()
    show_results(console, run, fakes.study())
    show_next(console, run, fakes.study())
    assert "no trial has begun" in text(console)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (42.4, "42 s"), (600, "10 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_sparkline_climbs() -> None:
    assert sparkline([(5, 0.1), (10, 0.2)], 10, width=4) == " ▁▁█"


def test_what_nvidia_smi_tells() -> None:
    told = "87, 10240, 81920\n[N/A], 1, 2\n"
    assert describe(told) == "GPU 0: 87 %, 10.0 of 80 GB"
