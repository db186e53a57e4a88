"""A secret that was typed or exported is found nowhere afterwards."""

import io
import json
import logging
from pathlib import Path

import pytest

from raysearch.records.files import write_json
from raysearch.records.report.page import write_report
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal.text import make_console
from raysearch.records.tracking import MlflowTracking, fill
from raysearch.redaction import redacted
from tests.records import fakes

SECRET = "hunter2-Swordfish"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://user:{SECRET}@host/path", "https://***@host/path"),
        (f"postgresql+psycopg2://u:{SECRET}@db:5432/x", "postgresql+psycopg2://***@db:5432/x"),
        (f"https://user:a@{SECRET}@host", "https://***@host"),
        (f"s3://key:{SECRET}@bucket/runs", "s3://***@bucket/runs"),
        (
            f"s3://bucket/x?access_key=A&secret_key={SECRET}&region=eu",
            "s3://bucket/x?access_key=***&secret_key=***&region=eu",
        ),
        (f"https://host/x?sv=1&sig={SECRET}", "https://host/x?sv=1&sig=***"),
        (f"AWS_SECRET_ACCESS_KEY={SECRET} make", "AWS_SECRET_ACCESS_KEY=*** make"),
        (f"RAY_AUTH_TOKEN={SECRET}", "RAY_AUTH_TOKEN=***"),
        (f"--set storage.password={SECRET}", "--set storage.password=***"),
        (f"authorization: Bearer {SECRET}", "authorization: Bearer ***"),
        ("key AKIAIOSFODNN7EXAMPLE", "key ***"),
    ],
)
def test_hidden(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////data/results/mlflow.db",
        "models:/animals@champion",
        "http://127.0.0.1:5000/#/experiments/1",
        "s3://bucket/a@b/c",
        "python -m raysearch.tune animals --set fixed.image_size=128",
        "RAY_AUTH_MODE=token",
        "the cluster demands its token; copy the file",
        "loss=focal + dice",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_records_hide_it_at_any_depth(tmp_path: Path) -> None:
    uri = f"s3://key:{SECRET}@bucket"
    write_json(tmp_path / "a.json", {"command": f"x {uri}", "more": [{"deep": (uri, 1, None)}]})
    text = (tmp_path / "a.json").read_text()
    assert SECRET not in text
    assert json.loads(text)["more"] == [{"deep": ["s3://***@bucket", 1, None]}]


def test_the_screen_hides_it() -> None:
    told = io.StringIO()
    make_console(file=told).print(f"error: https://user:{SECRET}@host does not answer")
    assert told.getvalue() == "error: https://***@host does not answer\n"


def test_a_tracking_server_that_is_away_is_named_without_its_password(
    run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.add_trial(run, 0, 0.5)
    uri = f"http://user:{SECRET}@127.0.0.1:1"
    tracking = MlflowTracking(uri, patience=60.0)
    with caplog.at_level(logging.WARNING):
        tracking.search_started(run, fakes.study())
        tracking.search_ended({})
    assert "is behind" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in tracking.problem


def test_a_typed_secret_is_in_no_record(recorded_run: RunFolder) -> None:
    run = recorded_run
    typed = (
        f"python -m raysearch.tune animals --set a.b=s3://key:{SECRET}@bucket --password={SECRET}"
    )
    run.describe(command=typed, notes=[f"fetched from https://u:{SECRET}@host/w"])
    fakes.add_trial(run, 0, 0.5)
    fill(run)
    write_report(run)
    seen = [path for path in run.output.rglob("*") if path.is_file()]
    assert {"run.json", "report.html", "mlflow.db"} <= {path.name for path in seen}
    assert [str(path) for path in seen if SECRET.encode() in path.read_bytes()] == []
    assert "s3://***@bucket" in run.info["command"]
