"""What every command does where its work cannot be done, or is interrupted."""

from collections.abc import Callable

from rich.markup import escape

from raysearch.errors import RaysearchError
from raysearch.records.terminal.text import make_console

BAD_INPUT, INTERRUPTED = 2, 130


def guarded(work: Callable[[], int | None], interrupted: str) -> int:
    """Do a command's work; return its exit code, 0 for None.

    Args:
        interrupted: what is said where the user breaks off, such as "nothing is written".

    Returns:
        2 where the work raises an error that is the user's to repair, 130 where it is interrupted.
    """
    console = make_console(stderr=True)
    try:
        return work() or 0
    except RaysearchError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        console.print(f"interrupted; {interrupted}")
        return INTERRUPTED
