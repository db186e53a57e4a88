"""The console script."""

from importlib.util import find_spec

import pytest

from raysearch import __version__
from raysearch.__main__ import COMMANDS, main


def test_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunes", "animals"]) == 2
    assert f"Did you mean 'tune'? Valid: {', '.join(sorted(COMMANDS))}." in capsys.readouterr().err


def test_no_command_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: raysearch <command>")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"raysearch {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module(name: str) -> None:
    assert find_spec(f"raysearch.{name}") is not None
