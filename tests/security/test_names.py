"""Names are text: they change neither a terminal nor a page, and lead to no other folder."""

import io
from pathlib import Path

import pytest

from raysearch.errors import RunError
from raysearch.records.report.page import write_report
from raysearch.records.run_folder import find_run
from raysearch.records.terminal.text import make_console
from tests.records import fakes

HTML = "<script>alert(1)</script>"
ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202egnp"


def test_a_terminal_is_told_no_codes() -> None:
    told = io.StringIO()
    make_console(file=told).print(f"class {ESCAPES}.jpg: damaged", markup=False)
    assert not set(told.getvalue()) & set("\x1b\x07\x9b\r\u202e")
    assert "title" in told.getvalue()


def test_colours_of_our_own_stay() -> None:
    told = io.StringIO()
    make_console(file=told, force_terminal=True, color_system="standard").print("[red]no[/]")
    assert told.getvalue() == "\x1b[31mno\x1b[0m\n"


def test_an_error_that_names_such_a_file_is_safe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from raysearch import tune

    name = str(tmp_path / "none[bold]\x1b[2J.yaml")
    assert tune.main([name, "--profile", "quick"]) == 2
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert "[bold]" in said


def test_a_page_shows_html_as_text(tmp_path: Path) -> None:
    classes = ("background", HTML, "lion")
    run = fakes.new_run(tmp_path, fakes.study(data={"format": "voc", "classes": classes}))
    fakes.add_trial(run, 0, 0.5)
    run.describe(
        command=f"tune {HTML} `{HTML}`", notes=[HTML],
        findings=[{"level": "warning", "kind": HTML, "words": f"`{HTML}`", "files": [HTML]}],
    )  # fmt: skip
    page = write_report(run).read_text(encoding="utf-8")
    assert HTML not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", ["..", "../..", "", "none/../..", "/"])
def test_a_run_is_not_found_outside(tmp_path: Path, name: str) -> None:
    run = fakes.new_run(tmp_path / "results")
    with pytest.raises(RunError):
        find_run(run.output, name)
