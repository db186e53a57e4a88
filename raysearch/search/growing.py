"""How many trials Tune runs at once, which rises as nodes join."""

from collections.abc import Callable

from ray.tune.search import ConcurrencyLimiter, Searcher


class Growing(ConcurrencyLimiter):
    """Tune's limit on trials at once, asked for before each further trial."""

    def __init__(self, searcher: Searcher, limit: Callable[[], int]) -> None:
        super().__init__(searcher, max_concurrent=limit())
        self.limit = limit

    def suggest(self, trial_id: str) -> dict[str, object] | None:
        self.max_concurrent = self.limit()
        found: dict[str, object] | None = super().suggest(trial_id)
        return found
