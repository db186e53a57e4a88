"""The progress of prediction: a bar on a terminal, sparse plain lines everywhere else."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raysearch.records.terminal.text import duration

HEARTBEAT_SECONDS = 30.0


class PredictionProgress:
    """Images done, and time left; faults are told at once.

    Args:
        heartbeat: at least so many seconds lie between two lines where there is no terminal.
    """

    def __init__(self, console: Console, total: int, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self.console, self.total, self.heartbeat = console, total, heartbeat
        self.done = 0.0
        self.bar: Progress | None = None
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("predicting"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=console,
                transient=True,
            )
            self.task = self.bar.add_task("predicting", total=total)

    def __enter__(self) -> Self:
        self.began = self.spoken = time.monotonic()
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, images: float) -> None:
        """Count images, or parts of one, as done."""
        self.done += images
        if self.bar is not None:
            self.bar.update(self.task, completed=round(self.done, 3))
            return
        now = time.monotonic()
        if now - self.spoken >= self.heartbeat and self.done:
            self.spoken = now
            left = (now - self.began) * (self.total - self.done) / self.done
            told = f"{self.done:.4g} of {self.total} images, {duration(max(0.0, left))} left"
            self.console.print(told)

    def fault(self, message: str) -> None:
        """Tell what is wrong with an image."""
        self.console.print(f"[red]skipped:[/] {escape(message)}", soft_wrap=True)
