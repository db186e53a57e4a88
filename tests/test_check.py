"""The command, as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysearch import check
from tests.data.voc_miniature import CLASSES, write_plain


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study and its data, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_plain(tmp_path / "voc", count=24)
    study: dict[str, Any] = {
        "name": "tiny",
        "data": {"format": "voc", "classes": list(CLASSES)},
        "networks": {"narrow": {"type": "unet", "width": 4, "depth": 2}},
        "fixed": {"architecture": "narrow", "crop_size": 32, "image_size": 32},
        "budget": {"trials": 1},
        "profiles": {"quick": {"fixed": {"batch_size": 2}}},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> int:
    return check.main(["tiny.yaml", "--data", "voc", *arguments])


def test_sound(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "nothing wrong or strange was found" in capsys.readouterr().out
    folder = place / "results" / "tiny" / "check"
    report = json.loads((folder / "check.json").read_text())
    assert report["passed"] is True
    assert report["images"]["used"] == {"train": 12, "val": 6, "test": 6}
    assert "nothing wrong" in (folder / "check.html").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["check.html", "check.json"]


def test_errors(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "voc" / "JPEGImages" / "003.png").write_bytes(b"")
    assert run("--output", "page") == 1
    assert "003.png: the file is empty" in capsys.readouterr().out
    (finding,) = json.loads((place / "page" / "check.json").read_text())["findings"]
    assert finding["level"] == "error"
    assert finding["files"] == ["JPEGImages/003.png"]


def test_lists_that_cannot_be_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "voc" / "ImageSets" / "Segmentation" / "train.txt").unlink()
    assert run() == 1
    assert "train.txt: no such list" in capsys.readouterr().out
    assert (place / "results" / "tiny" / "check" / "check.html").is_file()


def test_fix(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = place / "voc" / "JPEGImages"
    (images / "003.png").write_bytes(b"")
    assert run("--fix") == 1
    assert "--set data.options.lists=" in capsys.readouterr().out
    assert run("--set", f"data.options.lists={place / 'voc-splits'}") == 0
    assert run("--fix") == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no study is called 'nothing'"),
        (["tiny.yaml", "--data", "elsewhere"], "no such folder"),
        (["tiny.yaml", "--data", "voc", "--set", "data.options.pictures=x"], "unknown key"),
        (["tiny.yaml", "--data", "voc", "--profile", "fast"], "no profile is called 'fast'"),
        (["tiny.yaml"], "give the data set's folder with --data"),
        (["new"], "name the folder to look at with --data DIR"),
    ],
)
def test_bad_input(
    place: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_no_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main([])
    assert ended.value.code == 2


def test_new(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = place / "first.yaml"
    assert check.main(["new", "--data", "voc", "--output", str(target)]) == 0
    assert check.main([str(target), "--data", "voc"]) == 0
