"""The search's own account of its trials, on the disk first and in memory for the driver."""

import math
from collections.abc import Sequence
from typing import Any

from raysearch.config import Recipe, Study
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.search.mirror import fill_in


class Book:
    """Writes each trial's beginning and end to the run folder, and tells the listeners."""

    def __init__(self, run: RunFolder, study: Study, listeners: Sequence[Listener]) -> None:
        self.run, self.study, self.listeners = run, study, listeners
        self.records = {record.number: record for record in run.trials()}
        self.values = {n: self._values(record) for n, record in self.records.items()}
        self.failures = 0
        self.successes = 0

    @property
    def ended(self) -> list[int]:
        return [n for n, record in self.records.items() if record.state != "running"]

    @property
    def only_failures(self) -> int:
        """How many trials of this session failed, as long as none has ended otherwise."""
        return 0 if self.successes else self.failures

    @property
    def taken(self) -> str:
        """Which other process goes on with the search; "" for none."""
        return next((one.taken for one in self.listeners if one.taken), "")

    def begin(self, number: int, recipe: Recipe) -> None:
        record = self.run.begin_trial(number, recipe)
        self.records[number] = record
        self.values[number] = self._values(record)
        for listener in self.listeners:
            listener.trial_started(record)

    def epoch(self, number: int, metrics: dict[str, Any]) -> None:
        """Note one epoch; one that was trained again after a loss counts once."""
        if metrics["epoch"] in self.values[number]:
            return
        if self.study.resources.storage:
            fill_in(self.run.trial_folder(number), metrics)
        value = metrics.get(self.study.objective.metric, math.nan)
        if math.isfinite(value):
            self.values[number][metrics["epoch"]] = value
        for listener in self.listeners:
            listener.epoch(number, metrics)

    def end(self, number: int, state: str, reason: str) -> TrialRecord:
        """Note how a trial ended, in its folder first."""
        record = self.run.end_trial(number, state, reason, self.study.objective)
        self.records[number] = record
        self.failures += state == "failed"
        self.successes += state != "failed"
        for listener in self.listeners:
            listener.trial_ended(record)
        return record

    def _values(self, record: TrialRecord) -> dict[int, float]:
        metric = self.study.objective.metric
        values = {m["epoch"]: m.get(metric, math.nan) for m in record.history}
        return {epoch: value for epoch, value in values.items() if math.isfinite(value)}
