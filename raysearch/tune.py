"""`python -m raysearch.tune STUDY`: from a folder of images to a leaderboard."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysearch.config import Recipe, Study, outer
from raysearch.errors import ConfigError, RunError
from raysearch.records.kept import best_folder, best_folders
from raysearch.records.leaderboard import loss_text, ranked
from raysearch.records.repeat import find_trial
from raysearch.records.run_folder import RunFolder, find_run
from raysearch.records.terminal.guard import guarded
from raysearch.study import checked, load_study, parse_value, profile_names, read_yaml

START_POINTS = 5
CHANGING = (
    "splits", "profile", "epochs", "changes", "start_from", "seed", "init_from", "teachers",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.tune`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.tune",
        description="Search the best model for a data set: Ray Tune, Optuna and ASHA.",
    )
    add = p.add_argument
    add("study", help="a file in search_spaces/ without its ending, or a YAML's path")
    add("--data", type=Path, metavar="DIR", help="the data set (default: the study's)")
    add("--splits", choices=["honest", "official"], help="how the lists are used")
    add("--profile", help="quick, full, or another of the study (default: by GPU)")
    add("--trials", metavar="N", help="number of trials; +N with --resume adds to it")
    add("--epochs", type=int, metavar="N", help="most epochs of a trial")
    add("--minutes", type=float, metavar="M", help="time for the search")
    add("--seed", type=int, default=0, help="of splits, sampler and training (default: 0)")
    add("--output", type=Path, default=Path("results"), help="default: results")
    key = "change a key of the study, such as fixed.schedule=cosine; may be repeated"
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help=key)
    copied = "copy the run there, such as s3://bucket/prefix: nodes then share no files"
    add("--storage", metavar="URI", help=copied)
    add("--launcher", choices=["auto", "train", "inline"], help="how trials run")
    add("--address", help="of a running Ray cluster (default: RAY_ADDRESS, or this machine)")
    add("--start-from", metavar="RUN", help="begin with the best points of another search")
    add("--init-from", metavar="RUN", help="begin with the weights of another search's best trials")
    teacher = "learn from the best trial of another search too; may be repeated (an ensemble)"
    add("--teacher", action="append", default=[], metavar="RUN", dest="teachers", help=teacher)
    alone = "leave the end of the search to the best trial alone, and the test split closed"
    add("--no-ensemble", action="store_true", help=alone)
    add("--test-data", type=Path, metavar="DIR", help="measure the best trial on this set after")
    add("--dry-run", action="store_true", help="check all input and print the plan")
    what = p.add_mutually_exclusive_group()
    add = what.add_argument
    finish = "finish an interrupted search, or extend a finished one (default: the latest)"
    add("--resume", nargs="?", const="", metavar="RUN", help=finish)
    add("--one", nargs="*", metavar="KEY=VALUE", help="train a single configuration")
    add("--overfit-batch", action="store_true", help="learn one batch by heart")
    again = "train a run's best trial, or RUN/trials/N, again: the same seed and split"
    add("--repeat", metavar="RUN", help=again)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 (every trial failed), 2 (bad input) or 130 (interrupted)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "-m", "raysearch.tune", *argv])
    options = parser().parse_args(argv)
    return guarded(lambda: _run(options, command), "what was written is kept, see --resume")


def _run(options: argparse.Namespace, command: str) -> int:
    if options.resume is not None:
        return _resume(options, command)
    if options.repeat is not None:
        return _repeat(options, command)
    study = _study(options)
    from raysearch.search import session
    from raysearch.search.by_heart import overfit
    from raysearch.search.job import Job

    job = Job(
        study,
        options.output,
        options.seed,
        command,
        options.study,
        options.address,
        _replaced(options.study, study),
        () if options.profile or not study.profile else (_chosen(study.profile),),
        options.test_data,
        ensemble=not options.no_ensemble,
    )
    if options.dry_run:
        return session.plan(job)
    return overfit(job) if options.overfit_batch else session.begin(job)


def _resume(options: argparse.Namespace, command: str) -> int:
    run = RunFolder.open(_found(options).path)
    given = [name for name in ("data", "launcher", *CHANGING) if getattr(options, name)]
    if given:
        raise ConfigError(
            f"{_flag(given[0])} changes what is searched and cannot be combined with "
            "--resume; start a new search with --start-from"
        )
    from raysearch.search import session
    from raysearch.search.job import Job

    study = session.resumed_study(run, _more_trials(options.trials, run), options.minutes)
    if study.name != _name(options.study):
        raise RunError(
            f"{run.path}: is a search of '{study.name}', not of '{options.study}'; "
            f"resume it with `python -m raysearch.tune {study.name} --resume {run.path}`"
        )
    job = Job(
        study,
        run.output,
        run.info["seed"],
        command,
        options.study,
        options.address,
        run.info.get("replaced", {}),
        test_data=options.test_data,
        ensemble=not options.no_ensemble,
    )
    return session.resume(run, study, job, dry_run=options.dry_run)


def _repeat(options: argparse.Namespace, command: str) -> int:
    """Train a recorded trial again, and say whether its figures came out the same."""
    given = [name for name in ("trials", "minutes", *CHANGING) if getattr(options, name)]
    if given:
        raise ConfigError(
            f"{_flag(given[0])} changes what is trained and cannot be combined with --repeat; "
            "leave it out, or train a single configuration with --one"
        )
    again = find_trial(options.output, options.repeat)
    study = again.study
    if study.name != _name(options.study):
        raise RunError(
            f"{again.run.path}: is a search of '{study.name}', not of '{options.study}'; repeat it "
            f"with `python -m raysearch.tune {study.name} --repeat {options.repeat}`"
        )
    if options.data:
        study = checked(study, data=study.data.model_copy(update={"path": options.data.resolve()}))
    if options.launcher:
        resources = study.resources.model_copy(update={"launcher": options.launcher})
        study = checked(study, resources=resources)
    from raysearch.search import session
    from raysearch.search.job import Job

    job = Job(
        study,
        options.output,
        again.seed,
        command,
        options.study,
        options.address,
        again.run.info.get("replaced", {}),
        test_data=options.test_data,
        repeats=again,
    )
    return session.plan(job) if options.dry_run else session.begin(job)


def _found(options: argparse.Namespace) -> RunFolder:
    """The run to resume; one in storage is brought here first."""
    if "://" in options.resume:
        from raysearch.search.mirror import pull_run

        return pull_run(options.resume, options.output)
    if options.storage:
        from raysearch.search.mirror import find_in_storage

        name = options.resume or _name(options.study)
        return find_in_storage(_absolute(options.storage), name, options.output)
    return find_run(options.output, options.resume or _name(options.study))


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + {"changes": "set", "teachers": "teacher"}.get(name, name.replace("_", "-"))


def _chosen(profile: str) -> str:
    if profile == "quick":
        return "no GPU found: profile quick, with small networks (choose with --profile)"
    return f"GPU found: profile {profile} (choose with --profile)"


def _replaced(named: str, study: Study) -> dict[str, dict[str, Any]]:
    """Return the networks of the YAML that the study's profile put others in place of."""
    own = load_study(named).networks if study.profile else {}
    return {name: spec for name, spec in own.items() if study.networks.get(name) != spec}


def _more_trials(trials: str | None, run: RunFolder) -> int | None:
    """Return the number of trials that a resumed search ends with: +20 adds to those begun."""
    if trials is None:
        return None
    if not load_study(str(run.study_file)).space:
        raise ConfigError(
            f"--resume: {run.path} trained a single configuration, so there is nothing to search "
            "on; name the search with --resume RUN (`python -m raysearch.runs list` shows them)"
        )
    begun = len(run.numbers())
    wanted = begun + (_whole(trials[1:]) or 0) if trials.startswith("+") else _whole(trials)
    if wanted is not None and wanted < begun:
        raise ConfigError(f"--trials {trials}: {begun} trials have begun already; write +N to add")
    return wanted


def _name(study: str) -> str:
    """The name of a study that is named or given as a path."""
    return str(read_yaml(Path(study)).get("name")) if study.endswith((".yaml", ".yml")) else study


def _study(options: argparse.Namespace) -> Study:
    """Read the study with the command line's changes."""
    study = load_study(options.study, _profile(options), _changes(options))
    if options.start_from:
        study = _start_from(study, find_run(options.output, options.start_from))
    study = _with_sources(study, options)
    return _single(study, options.one, options.minutes) if options.one is not None else study


def _with_sources(study: Study, options: argparse.Namespace) -> Study:
    """Put other searches' trained trials in: to begin with their weights, or to learn from them."""
    changes: dict[str, Any] = {}
    if options.init_from:
        run = find_run(options.output, options.init_from)
        folders = best_folders(run)
        known = {name: folders[name] for name in study.networks if name in folders}
        if not known:
            raise RunError(
                f"{run.path}: no trial with weights has an architecture of this study "
                f"({', '.join(study.networks)})"
            )
        changes["init_from"] = {**study.init_from, **known}
    if options.teachers:
        runs = [find_run(options.output, name) for name in options.teachers]
        changes["teachers"] = [*study.teachers, *map(best_folder, runs)]
    return checked(study, **changes) if changes else study


def _profile(options: argparse.Namespace) -> str | None:
    if options.profile:
        return str(options.profile)
    from raysearch.cluster import suited_profile

    return suited_profile(profile_names(options.study), options.address)


def _changes(options: argparse.Namespace) -> list[str]:
    """Return the command line's short options as changes of the study's keys."""
    named = {
        "data.path": json.dumps(str(options.data.resolve())) if options.data else None,
        "data.splits": options.splits,
        "budget.trials": _whole(options.trials),
        "budget.epochs": options.epochs,
        "budget.minutes": options.minutes,
        "resources.launcher": options.launcher,
        "resources.storage": json.dumps(_absolute(options.storage)) if options.storage else None,
    }
    if options.minutes and not options.trials:
        named["budget.trials"] = "null"
    return [*options.changes, *(f"{k}={v}" for k, v in named.items() if v is not None)]


def _whole(trials: str | None) -> int | None:
    if trials is None:
        return None
    if not trials.isdigit() or int(trials) < 1:
        raise ConfigError(f"--trials {trials}: write a whole number from 1 (+N goes with --resume)")
    return int(trials)


def _start_from(study: Study, run: RunFolder) -> Study:
    """Put the best points of another search before the study's own start points."""
    other = load_study(str(run.study_file))
    records = [r for r in ranked(run.trials(), other.objective) if r.value is not None]
    points = [
        _point(record.recipe) for record in records if record.recipe.architecture in study.networks
    ]
    if not points:
        raise RunError(
            f"{run.path}: no trial of it has a value and an architecture of this study "
            f"({', '.join(study.networks)})"
        )
    return checked(study, start=[*points[:START_POINTS], *study.start])


def _point(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as a start point, its loss as a study writes it."""
    flat = {k: v for k, v in recipe.flat().items() if outer(k) not in ("loss", "epochs", "seed")}
    return {**flat, "loss": loss_text(recipe.loss)}


def _single(study: Study, given: Sequence[str], minutes: float | None) -> Study:
    """Return a study of one trial: the start point of the architecture, changed as given."""
    values: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--one {item}: write key=value, such as learning_rate=3e-4")
        values[key] = parse_value(text)
    starts = [*study.start_values(), {}]
    wanted = values.get("architecture", starts[0].get("architecture"))
    start = next((s for s in starts if s.get("architecture") == wanted), {})
    if wanted is None:
        wanted = next(iter(study.networks))
    fixed = {**study.fixed, **start, "architecture": wanted, **values}
    budget = study.budget.model_copy(update={"trials": 1, "minutes": minutes})
    return checked(study, space={}, start=[], fixed=fixed, budget=budget)


if __name__ == "__main__":
    sys.exit(main())
