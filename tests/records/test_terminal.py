"""What the terminal says, in plain text and live."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from raysearch.records.leaderboard import write_leaderboard, write_summary
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import (
    Network,
    Plan,
    Progress,
    make_console,
    show_plan,
    show_results,
)
from raysearch.records.terminal.gpu import describe
from raysearch.records.terminal.results import sparkline
from raysearch.records.terminal.text import duration
from tests.records import fakes
from tests.records.fakes import add_trial


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
        "architecture unet, learning_rate 0.001, batch_size 6", str(tmp_path / "results"),
    ):  # fmt: skip
        assert said in text(console), said


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
    write_summary(run, study, seconds=3600, busy_share=0.91, background_miou=0.1069)
    console = plain()
    show_results(console, run, study)
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


def test_results_of_nothing(run: RunFolder) -> None:
    console = plain()
    show_results(console, run, fakes.study())
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
