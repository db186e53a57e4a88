"""What follows a search: its results, its ensemble, measuring, and what to type next."""

from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.markup import escape

from raysearch.config import Study
from raysearch.errors import RaysearchError
from raysearch.inference.probabilities import candidates
from raysearch.records.evaluation import evaluate_run
from raysearch.records.repeat import Repeated, difference
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import make_console, resuming, show_next, show_results
from raysearch.records.terminal.evaluated import show_evaluation
from raysearch.search.ending import ALL_FAILED, INTERRUPTED
from raysearch.search.job import Job
from raysearch.search.together import make_ensemble

EXIT_INTERRUPTED = 130


def report(console: Console, run: RunFolder, study: Study, cause: str | None) -> int:
    """Print the results; return the exit code."""
    ended = [record for record in run.trials() if record.state != "running"]
    failed = [record for record in ended if record.state == "failed"]
    if failed and (cause == ALL_FAILED or len(failed) == len(ended)):
        first = failed[0].number
        console.print(f"[bold red]every trial failed.[/] The first, trial {first}, with:")
        console.print(run.error(first).rstrip(), markup=False, soft_wrap=True)
        return 1
    if "again" in run.info:
        return EXIT_INTERRUPTED if cause == INTERRUPTED else 0
    show_results(console, run, study)
    if cause == INTERRUPTED:
        show_next(console, run, study)
        console.print(f"\n[yellow]interrupted[/]; finish the search with {resuming(run, study)}")
        return EXIT_INTERRUPTED
    return 0


def finish(run: RunFolder, study: Study, job: Job) -> int:
    """Make the ensemble, measure the best trial on the other set that was asked for, and say what
    to type next; the search stands either way."""
    console, steps = make_console(), []
    if job.ensemble and study.space:
        steps.append(partial(_together, run, console, job))
    if job.test_data:
        steps.append(partial(_tested, run, console, study, job))
    fine = [_done(console, step) for step in steps]
    show_next(console, run, study)
    return 0 if all(fine) else 1


def _done(console: Console, step: Callable[[], None]) -> bool:
    try:
        step()
    except RaysearchError as error:
        console.print(f"[bold red]not measured:[/] {escape(str(error))}", soft_wrap=True)
        return False
    return True


def _together(run: RunFolder, console: Console, job: Job) -> None:
    found = candidates(run.path)
    if found:
        console.print(f"\n[bold]making the ensemble[/] [dim]from {len(found)} candidates[/]")
        make_ensemble(run, console, command=job.command, address=job.address)


def _tested(run: RunFolder, console: Console, study: Study, job: Job) -> None:
    show_evaluation(console, study, evaluate_run(run, data=job.test_data, command=job.command))


def compare(run: RunFolder, repeated: Repeated | None) -> None:
    """Say whether a repeated trial came out the same; nothing where none was repeated or begun."""
    if repeated and run.numbers():
        told = difference(repeated.record, run.trial(run.numbers()[0]), repeated.study)
        make_console().print(f"[bold]repetition:[/] {escape(told)}", soft_wrap=True)
