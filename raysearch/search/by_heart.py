"""Learn one batch by heart with each network, which every one of them must be able to."""

import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from raysearch import cluster
from raysearch.models.weights import fetch
from raysearch.records.terminal import make_console
from raysearch.search.job import Job, made_ready
from raysearch.training.machine import Machine
from raysearch.training.overfit import LEARNED, overfit_batch


def overfit(job: Job) -> int:
    """Learn one batch by heart with each network; return 0 where all of them can."""
    with made_ready(job) as ready, tempfile.TemporaryDirectory() as folder:
        console, learned = make_console(), []
        study, starts = ready.study, ready.study.start_values()
        for name in ready.parameters:
            start = next((s for s in starts if s.get("architecture") == name), {})
            recipe = study.recipe({**start, "architecture": name}, job.seed)
            value = overfit_batch(
                recipe,
                fetch(study.network_spec(recipe), ready.weights),
                study.what,
                ready.prepared.data,
                Path(folder),
                Machine(threads=cluster.available_cpus()),
                partial(_show_step, console, name, study.what.headline),
            )
            learned.append(value > LEARNED)
            verdict = "[green]learns[/]" if learned[-1] else f"[red]stays below {LEARNED}[/]"
            console.print(f"{name} {verdict}: {study.what.headline} {value:.3f} on one batch")
    return 0 if all(learned) else 1


def _show_step(
    console: Console, name: str, metric: str, step: int, loss: float, value: float
) -> None:
    console.print(f"  {name} step {step:>3}  loss {loss:.4f}  {metric} {value:.3f}")
