"""The progress of a search: live on a terminal, sparse plain lines everywhere else."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from raysearch.config import Study
from raysearch.records.goals import reached
from raysearch.records.leaderboard import best_trial, count_states
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal.gpu import GpuUse
from raysearch.records.terminal.text import STATE_STYLES, duration, number, states_text
from raysearch.records.trial_record import TrialRecord

HEARTBEAT_SECONDS = 30.0


class Progress(Listener):
    """Best so far, trials by state, running trials, time left, busy share and GPU use.

    Args:
        slots: trials that run at once.
        seconds: what is left of the budget's minutes; None takes them whole.
        heartbeat: at least so many seconds lie between two lines about running trials.
    """

    def __init__(
        self,
        console: Console,
        slots: int,
        seconds: float | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.seconds = seconds
        self.console, self.slots, self.heartbeat = console, slots, heartbeat
        self.records: dict[int, TrialRecord] = {}
        self.latest: dict[int, Mapping[str, Any]] = {}
        self.busy_seconds = 0.0
        self.live: Live | None = None
        self.gpu: GpuUse | None = None

    def search_started(self, run: RunFolder, study: Study) -> None:
        self.study = study
        if self.seconds is None and study.budget.minutes:
            self.seconds = study.budget.minutes * 60
        self.records = {record.number: record for record in run.trials()}
        self.before = self._done()
        self.started = self.spoken = time.monotonic()
        self.gpu = GpuUse()
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=2)
            self.live.start()

    def trial_started(self, record: TrialRecord) -> None:
        self.records[record.number] = record

    def epoch(self, number: int, metrics: Mapping[str, Any]) -> None:
        self.latest[number] = metrics
        self.busy_seconds += metrics.get("train_seconds", 0.0)
        self.busy_seconds += metrics.get("validation_seconds", 0.0)
        if not self.live and time.monotonic() - self.spoken >= self.heartbeat:
            self._say(self._heartbeat_text())

    def trial_ended(self, record: TrialRecord) -> None:
        self.records[record.number] = record
        self.latest.pop(record.number, None)
        self._say(self._ended_text(record))

    def search_ended(self, summary: Mapping[str, Any]) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, also after an error."""
        if self.live:
            self.live.stop()
            self.live = None
        if self.gpu:
            self.gpu.close()

    def _say(self, text: str) -> None:
        self.spoken = time.monotonic()
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    @property
    def elapsed(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials, copied at once: the live view is drawn by a thread of its own."""
        return list(self.records.values())

    @property
    def running(self) -> list[TrialRecord]:
        return [record for record in self.trials if record.state == "running"]

    @property
    def busy_share(self) -> float:
        return min(1.0, self.busy_seconds / (self.slots * self.elapsed))

    def time_left(self) -> float | None:
        """Seconds to the first limit of the budget; None before there is anything to judge by."""
        budget = self.study.budget
        limits = [self.seconds - self.elapsed] if self.seconds is not None else []
        done = self._done()
        if budget.trials and done > self.before:
            limits.append((budget.trials - done) * self.elapsed / (done - self.before))
        return max(0.0, min(limits)) if limits else None

    def _done(self) -> float:
        """Trials that have ended, and the part of each running one that is behind it."""
        return sum(
            1.0 if r.state != "running" else self._epochs(r) / self.study.budget.epochs
            for r in self.trials
        )

    def _told(self, record: TrialRecord) -> Mapping[str, Any]:
        """The metrics of a running trial's last epoch, which may be of an earlier session."""
        return self.latest.get(record.number) or (record.history[-1] if record.history else {})

    def _epochs(self, record: TrialRecord) -> int:
        return int(self._told(record).get("epoch", 0))

    def _best(self) -> tuple[float | None, TrialRecord | None]:
        """The best value so far, of trials that have ended and that run."""
        objective = self.study.objective
        record = best_trial(self.trials, objective)
        value = record.value if record else None
        for running, metrics in list(self.latest.items()):
            told = metrics.get("best", metrics.get(objective.metric))
            if told is not None and objective.better(told, value):
                value, record = told, self.records[running]
        return value, record

    def _best_text(self) -> str:
        value, record = self._best()
        if record is None:
            return "nothing yet"
        place = f"trial {record.number}, {record.recipe.architecture}"
        return f"{self.study.objective.metric} {number(value)} ({escape(place)})"

    def _trials_text(self) -> str:
        counts = count_states(self.trials)
        total = f" of {self.study.budget.trials}" if self.study.budget.trials else ""
        return f"{sum(counts.values())}{total}: {states_text(counts, live=True)}"

    def _ended_text(self, record: TrialRecord) -> str:
        style = STATE_STYLES[record.state]
        ended = sum(r.state != "running" for r in self.trials)
        total = f"/{self.study.budget.trials}" if self.study.budget.trials else ""
        parts = [
            f"[dim]{ended}{total}[/] trial {record.number:>3} {escape(record.recipe.architecture)}",
            f"[{style}]{record.state}[/]",
            f"{self.study.objective.metric} {number(record.value)}",
            f"{record.epochs} epochs",
            duration(record.seconds),
        ]
        parts += [f"({escape(record.reason)})"] if record.reason else []
        parts += ["[yellow]predicts one class alone[/]"] if record.collapsed else []
        level = reached(record, self.study.objective.goal)
        parts += [f"[bold green]{level} reached[/]"] if level else []
        return f"{'  '.join(parts)}  [dim]best {self._best_text()}[/]"

    def _heartbeat_text(self) -> str:
        running = "; ".join(self._running_text(record) for record in self.running)
        known = [f"trials {self._trials_text()}", f"best {self._best_text()}"]
        known.append(f"{duration(self.time_left())} left")
        known += [escape(self.gpu.text)] if self.gpu and self.gpu.text else []
        return f"[dim]{duration(self.elapsed)}[/] {escape(running)}  [dim]{', '.join(known)}[/]"

    def _running_text(self, record: TrialRecord) -> str:
        metric = self.study.objective.metric
        value = number(self._told(record).get(metric))
        epoch = f"{self._epochs(record)}/{record.recipe.epochs}"
        return f"trial {record.number} {record.recipe.architecture} epoch {epoch} {metric} {value}"

    def render(self) -> RenderableType:
        """Return the live view."""
        head = Table.grid(padding=(0, 2))
        head.add_column(style="bold")
        head.add_row("best so far", f"[bold green]{self._best_text()}[/]")
        head.add_row("trials", self._trials_text())
        head.add_row(
            "time", f"{duration(self.elapsed)} spent, {duration(self.time_left())} left, "
            f"slots busy {self.busy_share:.0%}",
        )  # fmt: skip
        if self.gpu and self.gpu.text:
            head.add_row("GPU", escape(self.gpu.text))
        return Group(head, self._running_table()) if self.running else head

    def _running_table(self) -> Table:
        metric = self.study.objective.metric
        table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
        for title in ("running", "architecture", "epoch", metric, "loss", "images/s"):
            table.add_column(title, justify="left" if title == "architecture" else "right")
        for record in self.running:
            told = self._told(record)
            rate = told.get("images_per_second")
            table.add_row(
                str(record.number), escape(record.recipe.architecture),
                f"{self._epochs(record)}/{record.recipe.epochs}", number(told.get(metric)),
                number(told.get("loss")), f"{rate:.1f}" if rate else "-",
            )  # fmt: skip
        return table
