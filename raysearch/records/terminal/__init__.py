"""What a search says in the terminal: its plan before, its progress during, its results after."""

from raysearch.records.terminal.guard import guarded
from raysearch.records.terminal.plan import Network, Plan, show_plan
from raysearch.records.terminal.progress import Progress
from raysearch.records.terminal.results import resuming, show_next, show_results
from raysearch.records.terminal.text import make_console

__all__ = [
    "Network", "Plan", "Progress", "guarded", "make_console", "resuming", "show_next",
    "show_plan", "show_results",
]  # fmt: skip
