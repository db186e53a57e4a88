"""Small texts that plan, progress and results share."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from raysearch.redaction import redacted

STATE_STYLES = {
    "completed": "green",
    "pruned": "yellow",
    "stopped": "yellow",
    "failed": "bold red",
    "running": "cyan",
}


# Names of files and classes may hold escape codes, with which a terminal can be made to lie.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class SafeConsole(Console):
    """Prints no control codes but rich's own, and no credentials."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for part in super().render(renderable, options):
            safe = CONTROLS.sub("\N{REPLACEMENT CHARACTER}", redacted(part.text))
            yield part if part.control else Segment(safe, part.style)


def make_console(**options: Any) -> Console:
    """Return a console whose tables stay readable in a file or a pipe, at 110 columns."""
    console = SafeConsole(highlight=False, **options)
    if not console.is_terminal and "width" not in options:
        console.width = max(console.width, 110)
    return console


def facts() -> Table:
    """Return a table of names and what there is to say of each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def duration(seconds: float | None) -> str:
    """Return seconds as people say them: 42 s, 7 min, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return "-"
    if seconds < 99:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def number(value: float | None) -> str:
    """Return a score with four places, or a dash."""
    return "-" if value is None or value != value else f"{value:.4f}"


def short(value: Any) -> str:
    """Return a searched value in few characters."""
    if value is None or value != value:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def millions(parameters: float | None) -> str:
    """Return a count of parameters in millions, or in thousands where it is small."""
    if parameters is None or parameters != parameters:
        return "-"
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else f"{parameters / 1e3:.1f} k"


def network_text(spec: Mapping[str, Any]) -> str:
    """Return a network's specification in one line, such as smp: decoder unet, encoder resnet18."""
    rest = ", ".join(f"{key} {_spec_value(v)}" for key, v in spec.items() if key != "type")
    return f"{spec.get('type', '')}: {rest}" if rest else str(spec.get("type", ""))


def _spec_value(value: Any) -> str:
    return "none" if value is None else str(value)


def states_text(counts: Mapping[str, int], live: bool = False) -> str:
    """Return the counts of states that occur, such as 5 completed, 2 pruned; live: see below."""
    told = (f"{count} {state_text(state, live)}" for state, count in counts.items() if count)
    return ", ".join(told) or "none yet"


def state_text(state: str, live: bool = False) -> str:
    """Return a trial's state as people read it: only in a search that lives does a trial run."""
    return "unfinished" if state == "running" and not live else state
