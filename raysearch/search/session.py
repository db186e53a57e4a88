"""A session of a search from a job to its summary: plan, begin, resume."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.markup import escape

from raysearch.cluster.control_plane import watched
from raysearch.config import Study
from raysearch.errors import RunError
from raysearch.records import leaderboard
from raysearch.records.again import Again
from raysearch.records.gallery import draw_search
from raysearch.records.repeat import Repeated
from raysearch.records.run_folder import RunFolder
from raysearch.records.sessions import sessions, spent
from raysearch.records.terminal import Progress, make_console, show_plan
from raysearch.records.tracking import MlflowTracking
from raysearch.search.after import compare, finish, report
from raysearch.search.baseline import baseline
from raysearch.search.job import Job, Ready, made_ready, planned
from raysearch.search.mirror import Mirror, mirrored, share_cache
from raysearch.search.retention import Retention
from raysearch.search.run import search
from raysearch.study import load_study, to_yaml
from raysearch.training.clock import shared_clock
from raysearch.training.device import describe_machine, find_device

PACKAGES = ("raysearch", "torch", "ray", "optuna", "segmentation-models-pytorch", "albumentations")


def plan(job: Job) -> int:
    """Check all input and print the plan, without training."""
    with made_ready(job) as ready:
        show_plan(make_console(), planned(ready, job.output / job.study.name))
    return 0


def begin(job: Job) -> int:
    """Start a new search in a folder of its own; return the command's exit code."""
    with made_ready(job) as ready:
        about = {"again": job.again.info} if job.again else {}
        run = RunFolder.create(job.output, job.study.name, **about)
        with run.lock(), mirrored(run, ready.study) as mirror:
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
            code = _search(ready, run, mirror)
            if job.again:
                return code
            compare(run, job.repeats)
            return finish(run, ready.study, job) if code == 0 else code


def _repeated_text(repeated: Repeated | None) -> str | None:
    return f"{repeated.run.name}/trials/{repeated.record.number}" if repeated else None


def resume(run: RunFolder, study: Study, job: Job, dry_run: bool = False) -> int:
    """Finish an interrupted search, or extend a finished one; return the command's exit code.

    Args:
        study: the run's own, with the budget changed as asked for.
        dry_run: check all input and print the plan, and leave the run as it is.

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
        if dry_run:
            show_plan(make_console(), planned(ready, run.path, run.trials()))
            return 0
        with mirrored(run, ready.study) as mirror:
            run.write("study.yaml", to_yaml(ready.study))
            code = _search(ready, run, mirror)
        if job.again and by_hand:
            later = "goes on with it" if code else "says what came of it"
            told = f"`{escape(run.info['command'])}` {later}"
            make_console().print(told, soft_wrap=True)
        return code if job.again or code else finish(run, ready.study, job)


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


def _search(ready: Ready, run: RunFolder, mirror: Mirror | None = None) -> int:
    """Run one session in a run folder that is ours, and write what it came to."""
    study, minutes = ready.study, ready.study.budget.minutes
    before = sessions(run)
    seconds = max(0.0, minutes * 60 - spent(run)) if minutes is not None else None
    console = make_console()
    show_plan(console, planned(ready, run.path, run.trials()))
    now = shared_clock(run.path)
    begun = now()
    run.describe(sessions=[*before, (begun, None)])
    progress = Progress(console, ready.slots.trials, seconds)
    tracking, retention = MlflowTracking(), Retention(mirror)
    listeners = [retention, tracking, progress, *([mirror] if mirror else [])]
    share_cache(study, ready.prepared.data.cache, ready.job.output, ready.slots.coming)
    repair = f"finish it with `python -m raysearch.tune {study.name} --resume {run.path}`"
    try:
        with watched(repair):
            cause = search(run, study, ready.context(run), ready.job.seed, seconds, listeners)
    finally:
        progress.close()
        retention.close()
        run.describe(sessions=[*before, (begun, now())])
        tracking.search_ended(_close(ready, run))
    return report(console, run, study, cause)


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
        baseline=baseline(study.what, study.objective.metric, data),
        device=str(find_device()),
    )
