"""What the search tells while it runs."""

from collections.abc import Mapping
from typing import Any

from raysearch.config import Study
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord


class Listener:
    """Told of a search's moments, in the driver. Every method must return quickly."""

    @property
    def taken(self) -> str:
        """Which other process goes on with the search, which then ends here; "" for none."""
        return ""

    def search_started(self, run: RunFolder, study: Study) -> None:
        """A search begins, or is resumed."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins, or is taken up again."""

    def epoch(self, number: int, metrics: Mapping[str, Any]) -> None:
        """A trial has finished an epoch, whose metrics stand in its history."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is over; its end is in its folder."""

    def search_ended(self, summary: Mapping[str, Any]) -> None:
        """The search is over; its summary is in the run folder."""
