"""A search from the command's options to its summary: begin, resume, plan, overfit one batch."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from raysearch import cluster
from raysearch.config import Study, Task
from raysearch.config.task import POSITIVE
from raysearch.data import Data
from raysearch.data.splits import Splits, read_splits
from raysearch.errors import ConfigError, RaysearchError, RunError
from raysearch.inference.evaluation import other_data
from raysearch.inference.probabilities import candidates
from raysearch.models.weights import fetch
from raysearch.records import leaderboard
from raysearch.records.again import Again
from raysearch.records.evaluation import cache_folder, evaluate_run
from raysearch.records.gallery import draw_search
from raysearch.records.repeat import Repeated, difference
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import (
    Network,
    Plan,
    Progress,
    make_console,
    show_next,
    show_plan,
    show_results,
)
from raysearch.records.terminal.evaluated import show_evaluation
from raysearch.records.tracking import MlflowTracking
from raysearch.search.checks import check_batches, check_data, check_networks, check_parts
from raysearch.search.ending import ALL_FAILED, INTERRUPTED
from raysearch.search.prepare import (
    Prepared,
    bring_weights,
    check_writable,
    loader_workers,
    locate,
    prepare,
)
from raysearch.search.retention import Retention
from raysearch.search.run import search
from raysearch.search.schedule import rungs
from raysearch.search.sources import check_sources, check_unseen
from raysearch.search.together import make_ensemble
from raysearch.search.trial import Context
from raysearch.study import given, load_study, single, to_yaml
from raysearch.training.device import describe_machine, find_device
from raysearch.training.loop import Machine
from raysearch.training.metrics import majority_share, scores
from raysearch.training.overfit import LEARNED, overfit_batch

PACKAGES = ("raysearch", "torch", "ray", "optuna", "segmentation-models-pytorch", "albumentations")
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """What a command asks for.

    Attributes:
        named: the study as it was typed, a name or a path.
        replaced: networks of the YAML that the profile has put others in place of.
        notes: what is said aloud before the plan.
        ensemble: whether the search ends with one, where it has trials for that.
        test_data: another folder of the study's format that the best trial is measured on.
        repeats: the trial that is trained again, on the split that it was trained on.
        again: recipes that are trained instead of a search.
    """

    study: Study
    output: Path
    seed: int
    command: str
    named: str
    address: str | None = None
    replaced: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    test_data: Path | None = None
    repeats: Repeated | None = None
    ensemble: bool = True
    again: Again | None = None

    def studies(self, study: Study) -> list[Study]:
        """Return what has to be checked: the study, or one for each recipe that is given."""
        if self.again is None:
            return [study]
        found: list[Study] = []
        for recipe in self.again.recipes:  # Seeds do not matter: `single` leaves them out.
            one = single(study, recipe)
            found += [one] if one not in found else []
        return found


@dataclass(frozen=True)
class Ready:
    """A job whose input is checked, on a cluster that is joined."""

    job: Job
    prepared: Prepared
    slots: cluster.Slots
    parameters: dict[str, int]

    @property
    def study(self) -> Study:
        return self.prepared.study

    @property
    def launcher(self) -> str:
        asked = self.study.resources.launcher
        return self.slots.launcher if asked == "auto" else asked

    @property
    def weights(self) -> Path:
        """Where pretrained weights lie, once for all searches of an output folder."""
        return self.job.output.resolve() / "weights"

    def context(self, run: RunFolder) -> Context:
        slots, resources = self.slots, self.study.resources
        return Context(
            run=run.path,
            root=self.prepared.root,
            cache=self.prepared.cache,
            weights=self.weights,
            digest=self.prepared.data.digest,
            study=self.study,
            slots=slots,
            launcher=self.launcher,
            loader_workers=loader_workers(resources, slots.cpus, slots.gpus),
        )


@contextmanager
def made_ready(job: Job) -> Iterator[Ready]:
    """Check all input before anything is reserved or written; then join the cluster.

    Raises:
        RaysearchError: anything that cannot be used, with what, where and the repair.
    """
    check_writable(job.output)
    device = find_device()
    study, located = locate(job.study, job.output)
    parameters: dict[str, int] = {}
    for one in job.studies(study):
        parameters |= check_networks(one, study.resources.workers_per_trial)
        check_parts(one)
    begun_with = check_sources(study)
    if job.test_data:
        other_data(study.data, job.test_data.resolve(), cache_folder(study), "test")
    prepared = prepare(study, job.seed, (*located, *begun_with))
    if job.repeats:
        prepared = replace(prepared, data=_as_then(job.repeats.run, prepared))
    if job.again:
        prepared = replace(prepared, data=_as_then(job.again.of, prepared, job.again.splits))
    for one in job.studies(study):
        check_data(one, prepared.data)
    unknown = check_unseen(study, prepared.data)
    study, notes = _with_weights(job, prepared.study)
    prepared = replace(prepared, study=study, notes=(*job.notes, *prepared.notes, *unknown, *notes))
    resources = study.resources
    with_train = resources.launcher == "train" or resources.workers_per_trial > 1
    with cluster.joined(job.address, dashboard=with_train):
        slots = cluster.slots(study.resources)
        for one in job.studies(study):
            check_batches(one, slots.workers)
        if device.type == "mps":
            slots = replace(slots, trials=1)  # Apple's GPU is one, and Ray does not count it.
        if slots.workers > 1 and study.resources.launcher == "inline":
            raise ConfigError(
                f"resources.launcher: inline trains one worker a trial, not {slots.workers}; "
                "leave it at auto, or set workers_per_trial: 1"
            )
        yield Ready(job, prepared, slots, parameters)


def _with_weights(job: Job, study: Study) -> tuple[Study, tuple[str, ...]]:
    """The study that is trained, its weights brought, and what there is to say about them."""
    networks, notes = dict(study.networks), list[str]()
    for one in job.studies(study):
        brought, said = bring_weights(one, job.output.resolve() / "weights")
        networks |= {k: v for k, v in brought.networks.items() if v != study.networks[k]}
        notes += said
    study = study.model_copy(update={"networks": networks})
    found = given(study, job.again.recipes) if job.again else study
    return found, tuple(dict.fromkeys(notes))


def _as_then(run: RunFolder, prepared: Prepared, splits: Splits | None = None) -> Data:
    """The data split as a run knew them, or otherwise.

    Raises:
        RunError: the files are no longer those that it was run on.
    """
    found, known = prepared.data.digest, run.info["data_digest"]
    if found != known:
        raise RunError(
            f"{prepared.root}: the files are not those that {run.name} was run on (digest "
            f"{found}, not {known}); bring them back, or name their folder with --data"
        )
    return replace(prepared.data, splits=splits or read_splits(run.splits_file))


def plan(job: Job) -> int:
    """Check all input and print the plan, without training."""
    with made_ready(job) as ready:
        show_plan(make_console(), _plan(ready, job.output / job.study.name))
    return 0


def begin(job: Job) -> int:
    """Start a new search in a folder of its own; return the command's exit code."""
    with made_ready(job) as ready:
        about = {"again": job.again.info} if job.again else {}
        run = RunFolder.create(job.output, job.study.name, **about)
        with run.lock():
            run.write("study.yaml", to_yaml(ready.study))
            run.write(run.splits_file.name, ready.prepared.data.splits.to_json())
            if job.again:
                job.again.write(run)
            run.describe(
                command=job.command,
                named=job.named,
                seed=job.seed,
                replaced={name: dict(spec) for name, spec in job.replaced.items()},
                profile=ready.study.profile,
                data_digest=ready.prepared.data.digest,
                splits=ready.prepared.data.splits.mode,
                notes=list(ready.prepared.notes),
                test_data=str(job.test_data.resolve()) if job.test_data else None,
                findings=[finding.to_json() for finding in ready.prepared.findings],
                versions={name: version(name) for name in PACKAGES},
                machine=describe_machine(),
                sessions=[],
                repeats=_repeated_text(job.repeats),
            )
            code = _search(ready, run)
            if job.again:
                return code
            _compare(run, job.repeats)
            return _finished(run, ready.study, job) if code == 0 else code


def _repeated_text(repeated: Repeated | None) -> str | None:
    return f"{repeated.run.name}/trials/{repeated.record.number}" if repeated else None


def _compare(run: RunFolder, repeated: Repeated | None) -> None:
    """Say whether a repeated trial came out the same; nothing where none was repeated or begun."""
    if repeated and run.numbers():
        told = difference(repeated.record, run.trial(run.numbers()[0]), repeated.study)
        make_console().print(f"[bold]repetition:[/] {escape(told)}", soft_wrap=True)


def _finished(run: RunFolder, study: Study, job: Job) -> int:
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
    if candidates(run.path):
        console.print()
        make_ensemble(run, console, command=job.command, address=job.address)


def _tested(run: RunFolder, console: Console, study: Study, job: Job) -> None:
    show_evaluation(console, study, evaluate_run(run, data=job.test_data, command=job.command))


def resume(run: RunFolder, study: Study, job: Job) -> int:
    """Finish an interrupted search, or extend a finished one; return the command's exit code.

    Args:
        study: the run's own, with the budget changed as asked for.

    Raises:
        RunError: the data are not those that the search was started with.
    """
    known_set = run.info.get("test_data")
    test_data = job.test_data or (Path(known_set) if known_set else None)
    job = replace(job, study=study, seed=run.info["seed"], test_data=test_data)
    by_hand = job.again is None
    job = replace(job, again=Again.read(run))
    with run.lock(), made_ready(job) as ready:
        found, known = ready.prepared.data.digest, run.info["data_digest"]
        if found != known:
            raise RunError(
                f"{ready.prepared.root}: the data have changed since {run.path} was started "
                f"(digest {found}, not {known}); start a new search with --start-from {run.path}"
            )
        run.write("study.yaml", to_yaml(ready.study))
        code = _search(ready, run)
        if job.again and by_hand:
            later = "goes on with it" if code else "says what came of it"
            told = f"`{escape(run.info['command'])}` {later}"
            make_console().print(told, soft_wrap=True)
        return code if job.again or code else _finished(run, ready.study, job)


def resumed_study(run: RunFolder, trials: int | None, minutes: float | None) -> Study:
    """Return a run's study, with the limits of its budget replaced by those that are given.

    Args:
        trials: how many the search has in the end.
        minutes: how much longer it may take.
    """
    study = load_study(str(run.study_file))
    if trials is None and minutes is None:
        return study
    whole = spent(run) / 60 + minutes if minutes is not None else None
    budget = study.budget.model_copy(update={"trials": trials, "minutes": whole})
    return study.model_copy(update={"budget": budget})


def spent(run: RunFolder) -> float:
    """Return the seconds that a search has run, over all its sessions."""
    return sum(end - begin for begin, end in sessions(run))


def sessions(run: RunFolder) -> list[tuple[float, float]]:
    """Return begin and end of each session; one that was killed ends with its last epoch."""
    known = run.info.get("sessions", [])
    times = [metrics["time"] for record in run.trials() for metrics in record.history]
    found = []
    for number, (begin, end) in enumerate(known):
        later = [b for b, _ in known[number + 1 :]]
        until = min(later, default=float("inf"))
        last = max((t for t in times if begin <= t < until), default=begin)
        found.append((begin, last if end is None else end))
    return found


def _search(ready: Ready, run: RunFolder) -> int:
    """Run one session in a run folder that is ours, and write what it came to."""
    study, minutes = ready.study, ready.study.budget.minutes
    before = sessions(run)
    seconds = max(0.0, minutes * 60 - spent(run)) if minutes is not None else None
    console = make_console()
    show_plan(console, _plan(ready, run.path))
    begun = time.time()
    run.describe(sessions=[*before, (begun, None)])
    progress = Progress(console, ready.slots.trials, seconds)
    tracking, retention = MlflowTracking(), Retention()
    listeners = [retention, tracking, progress]
    try:
        cause = search(run, study, ready.context(run), ready.job.seed, seconds, listeners)
    finally:
        progress.close()
        retention.close()
        run.describe(sessions=[*before, (begun, time.time())])
        tracking.search_ended(_close(ready, run))
    return _report(console, run, study, cause)


def _close(ready: Ready, run: RunFolder) -> dict[str, Any]:
    """Write the leaderboard and the summary."""
    data, study = ready.prepared.data, ready.study
    leaderboard.write_leaderboard(run, study)
    draw_search(run, study)
    share = leaderboard.busy_share(run.trials(), ready.slots.trials, sessions(run))
    return leaderboard.write_summary(
        run,
        study,
        seconds=spent(run),
        busy_share=share,
        baseline=_baseline(study.what, study.objective.metric, data),
        device=str(find_device()),
    )


def _baseline(task: Task, metric: str, data: Data) -> dict[str, Any]:
    """What an answer that never looks at the image scores on validation."""
    counts = torch.from_numpy(data.cache.class_pixels[list(data.indices("val"))].sum(0))
    if not task.segments:
        return {"name": "always the most frequent class", "value": majority_share(counts)}
    if task.binary and metric in POSITIVE:  # Found everywhere, it is right where it is.
        share = (counts[1] / counts.sum().clamp_min(1)).item()
        found = {"precision": share, "recall": 1.0, "f1": 2 * share / (1 + share)}
        value = found.get(metric, share)
        return {"name": f"predicting {task.classes[1]} everywhere", "value": value}
    confusion = torch.zeros(len(counts), len(counts), dtype=torch.int64)
    confusion[:, 0] = counts
    told = scores(confusion, task.classes)
    name = "predicting background alone"
    return {"name": name, "value": told.get(metric, told[task.headline])}


def _report(console: Console, run: RunFolder, study: Study, cause: str | None) -> int:
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
        console.print("[yellow]interrupted[/]; finish the search with the --resume above")
        return EXIT_INTERRUPTED
    return 0


def _plan(ready: Ready, output: Path) -> Plan:
    study, slots, data = ready.study, ready.slots, ready.prepared.data
    workers = "1 worker" if slots.workers == 1 else f"{slots.workers} workers"
    gpus = f" + {slots.gpus:g} GPU" if slots.gpus else ""
    networks = [
        Network(name, study.networks[name], count, ready.job.replaced.get(name))
        for name, count in ready.parameters.items()
    ]
    return Plan(
        study=study,
        data_path=ready.prepared.root,
        images={name: len(data.indices(name)) for name in ("train", "val", "test")},
        class_share=dict(zip(study.data.classes, data.class_frequency.tolist(), strict=True)),
        digest=data.digest,
        splits=data.splits.mode,
        networks=networks,
        rungs=rungs(study),
        slots=slots.trials,
        per_trial=f"{workers} x {slots.cpus} CPU{gpus}",
        launcher=ready.launcher,
        device=str(find_device()),
        output=output,
        notes=ready.prepared.notes,
    )


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
