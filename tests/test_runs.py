"""`python -m raysearch.runs`."""

import signal
from pathlib import Path

import pytest

from raysearch.records.files import write_json
from raysearch.records.leaderboard import write_leaderboard, write_summary
from raysearch.records.run_folder import RunFolder
from raysearch.runs import main, status
from tests.records import fakes
from tests.records.fakes import add_trial, new_run
from tests.records.test_lock import holder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results"


def finished(output: Path) -> RunFolder:
    run = new_run(output)
    add_trial(run, 0, 0.3)
    add_trial(run, 1, 0.5, state="pruned")
    write_leaderboard(run, fakes.study())
    write_summary(run, fakes.study(), seconds=754, busy_share=0.9)
    return run


def interrupted(output: Path) -> RunFolder:
    run = new_run(output)
    add_trial(run, 0, 0.3, state="running")
    return run


def call(output: Path, *arguments: str) -> int:
    return main([*arguments, "--output", str(output)])


def test_list(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(output, "list") == 0
    assert "holds no search yet" in capsys.readouterr().out
    whole, broken, empty = finished(output), interrupted(output), new_run(output)
    damaged = new_run(output)
    damaged.study_file.write_text("name: [")
    assert call(output, "list") == 0
    table, problems = capsys.readouterr().out.split(f"{damaged.study_file}: ")
    assert "not readable as YAML" in problems
    lines = {line.split()[1]: line for line in table.splitlines()[1:]}
    assert "finished" in lines[whole.path.name]
    assert "1 completed, 1 pruned" in lines[whole.path.name]
    assert "miou 0.3884" in lines[whole.path.name]
    assert "13 min" in lines[whole.path.name]
    assert "interrupted" in lines[broken.path.name]
    assert "empty" in lines[empty.path.name]
    assert "damaged" in lines[damaged.path.name]


def test_clean_removes_probabilities_alone(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, busy = finished(output), interrupted(output)
    for run in (whole, busy):
        (run.probabilities / "val").mkdir(parents=True)
        (run.probabilities / "val" / "0000-0001.npy").write_bytes(b"0" * 2_000_000)
    with holder(busy):
        assert call(output, "clean", "--probabilities") == 2
        assert "--yes" in capsys.readouterr().err
        assert whole.probabilities.is_dir()
        assert call(output, "clean", "--probabilities", "--yes") == 0
        assert "removed 2 MB" in capsys.readouterr().out
        assert call(output, "clean", busy.name, "--probabilities", "--yes") == 2
    assert not whole.probabilities.exists()
    assert busy.probabilities.is_dir()
    assert len(whole.trials()) == 2
    assert call(output, "clean", busy.name, "--probabilities", "--yes") == 0
    assert not busy.probabilities.exists()


def test_a_search_that_goes_on_is_not_finished(output: Path) -> None:
    run = finished(output)
    assert status(run).state == "finished"
    add_trial(run, 2, 0.3, state="running")
    assert status(run).state == "interrupted"
    with run.lock():
        assert status(run).state == "running"


def test_show(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(output)
    assert call(output, "show", "animals") == 0
    said = capsys.readouterr().out
    assert run.name in said
    assert "0.3884" in said
    assert call(output, "show", "animal") == 2
    assert "Did you mean" in capsys.readouterr().err


def test_show_without_a_class(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(output)
    assert call(output, "show", "animals", "--without", "lion") == 0
    said = capsys.readouterr().out
    assert "mean IoU without lion: 0.6442" in said
    assert call(output, "show", "animals", "--without", "lions") == 2
    assert "Did you mean 'lion'?" in capsys.readouterr().err


def test_stop_sends_an_interrupt_to_the_search(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(output)
    assert call(output, "stop", "animals") == 2
    assert "does not run" in capsys.readouterr().err
    with holder(run) as process:
        assert call(output, "stop", run.name) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "stopped\n"
        assert process.wait() == 0
    assert run.owner() is None


def test_stop_spares_a_process_that_is_not_the_search(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(output)
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        with run.lock() as me:
            write_json(run.path / "owner.json", {"pid": me.pid, "host": me.host, "started": 0.0})
            assert call(output, "stop", run.name) == 2
            write_json(run.path / "owner.json", {"pid": me.pid, "host": "other", "started": 0.0})
            assert call(output, "stop", run.name) == 2
    finally:
        signal.signal(signal.SIGINT, previous)
    assert received == []
    assert "process" in capsys.readouterr().err


def test_clean_removes_empty_runs_after_a_yes(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken, empty = finished(output), interrupted(output), new_run(output)
    assert call(output, "clean") == 2
    captured = capsys.readouterr()
    assert empty.name in captured.out
    assert "--yes" in captured.err
    assert empty.path.is_dir()
    assert call(output, "clean", "--yes") == 0
    assert not empty.path.exists()
    assert (output / "animals/latest").resolve() == broken.path
    assert call(output, "clean", "--finished", "--yes") == 0
    assert not whole.path.exists()
    assert broken.path.is_dir()
    assert call(output, "clean", "--yes") == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert call(output, "clean", "animals/latest", "--yes") == 0
    assert not (output / "animals").exists()


def test_clean_never_removes_a_running_search(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(output)
    with holder(run):
        assert call(output, "clean", "--finished", "--yes") == 0
        assert call(output, "clean", run.name, "--yes") == 2
        assert "stop it first" in capsys.readouterr().err
    assert run.path.is_dir()


def test_fill_names_what_mlflow_says(
    output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://server")
    finished(output)
    assert call(output, "fill", "animals") == 2
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err
