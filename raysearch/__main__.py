"""The console script: `raysearch <command> ...` is `python -m raysearch.<command> ...`."""

import sys
from collections.abc import Sequence
from importlib import import_module

from raysearch import __version__
from raysearch.errors import closest

COMMANDS = {
    "check": "look a data set over before anything is spent on it",
    "tune": "search for the best model of a study",
    "evaluate": "measure a search's best trial on its test split, or on other images",
    "predict": "write masks or classes of new images",
    "report": "write one HTML page about a search",
    "ensemble": "make the best model of a search's trials together, and measure it",
    "export": "write a model as ONNX, checked against PyTorch, with a table of speeds",
    "doctor": "look at this machine and its cluster before money is spent",
    "runs": "list, show, stop and clean runs",
}


def usage() -> str:
    lines = [f"  {name:<8} {purpose}" for name, purpose in COMMANDS.items()]
    lines.append(
        "`raysearch <command> --help` explains one of them; `--version` names this version."
    )
    return "\n".join(["usage: raysearch <command> ...", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command by its name and return its exit code; 2 for a name that is none."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        code: int = import_module(f"raysearch.{name}").main(arguments[1:])
        return code
    if name in ("-h", "--help", "--version"):
        print(f"raysearch {__version__}" if name == "--version" else usage())
        return 0
    unknown = f"no command is called '{name}'. {closest(name, COMMANDS)}"
    print(f"raysearch: {unknown}" if name else usage(), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
