"""Train given recipes as a run of their own: finalists, members on all data, ablations, students.

Each is trained as a search trains its trials (the same launchers, records and retention), with
nothing sampled and nothing cut. A run that was broken off goes on when the same is asked for again;
one that has ended is taken as it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.markup import escape

from raysearch.config import Recipe, Study
from raysearch.data.splits import Splits, read_splits
from raysearch.errors import RunError
from raysearch.inference.models import ENSEMBLE
from raysearch.records.again import ABLATION, DISTILLATION, FINALISTS, REFIT, Again
from raysearch.records.files import read_json
from raysearch.records.leaderboard import ranked
from raysearch.records.repeat import find_trial
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import make_console
from raysearch.records.terminal.text import duration
from raysearch.search import session
from raysearch.search.after import EXIT_INTERRUPTED
from raysearch.search.job import Job
from raysearch.search.techniques import without_each
from raysearch.study import checked, load_study
from raysearch.training.checkpoint import BEST
from raysearch.training.trained import load_trained

ON_ALL = "refit"  # What splits.json calls splits whose training images hold validation's too.


def distil(
    run: RunFolder,
    recipe: Recipe,
    teachers: Sequence[Path],
    command: str,
    address: str | None = None,
) -> RunFolder:
    """Train a student that learns from teachers beside the labels; return its run of one trial.

    Args:
        run: the search whose images, splits and networks are taken.
        recipe: of the student; `distill_weight` and `distill_temperature` say how it learns.
        teachers: folders of trials or of their checkpoints, whose mean probabilities it learns.
        command: as it was typed.

    Raises:
        RunError: it failed, or a teacher has seen what the search holds out.
        ConfigError: teachers of other classes.
        KeyboardInterrupt: it was interrupted; the same call goes on with it.
    """
    places = [place.parent if place.name == BEST else place for place in teachers]
    study = checked(load_study(str(run.study_file)), teachers=places)
    about = {"teachers": [str(place) for place in places]}
    again = Again(run, DISTILLATION, (recipe,), (about,))
    said = f"a student of {len(places)} networks of {run.name}"
    return train(again, command, study, address, said)


def train_finalists(
    run: RunFolder, count: int, seeds: int, command: str, address: str | None = None
) -> RunFolder:
    """Train the best trials of a search again from scratch, each with several seeds.

    The seeds follow the search's own, which is left out: its figures are those that the trials
    were chosen by, and it would give them again.

    Raises:
        RunError: no trial of the search has a value, or every training failed.
    """
    study = load_study(str(run.study_file))
    best = [one for one in ranked(run.trials(), study.objective) if one.value is not None][:count]
    if not best:
        raise RunError(f"{run.name}: no trial of it has a value, so there are no finalists")
    pairs = [(one, one.recipe.seed + 1 + more) for one in best for more in range(seeds)]
    again = Again(
        run,
        FINALISTS,
        tuple(one.recipe.model_copy(update={"seed": seed}) for one, seed in pairs),
        tuple({"trial": one.number, "seed": seed} for one, seed in pairs),
    )
    numbers = ", ".join(str(one.number) for one in best)
    said = f"trials {numbers} of {run.name} from scratch, with {seeds} other seeds each"
    return train(again, command, None, address, said)


def train_without(
    run: RunFolder, seeds: int, command: str, address: str | None = None
) -> RunFolder:
    """Train a search's best trial again, and once without each of its techniques.

    The first seed is the trial's own; all share its split.

    Raises:
        RunError: no trial has a value, or every training failed.
    """
    best = find_trial(run.output, str(run.path))
    study = load_study(str(run.study_file))
    variants = without_each(best.record.recipe, study)
    pairs = [(one, best.seed + more) for one in variants for more in range(seeds)]
    again = Again(
        run,
        ABLATION,
        tuple(one.recipe.model_copy(update={"seed": seed}) for one, seed in pairs),
        tuple({"technique": v.name, "off": v.off, "trial": best.record.number} for v, _ in pairs),
    )
    said = f"trial {best.record.number} of {run.name}, with all and without each of its techniques"
    return train(again, command, None, address, said)


def train_on_all(run: RunFolder, command: str, address: str | None = None) -> RunFolder:
    """Train the members of a search's ensemble on training and validation images together.

    Each is trained for the epochs that its checkpoint had, under the schedule of its whole recipe:
    so the learning rate goes the way by which the checkpoint was found and chosen, which a schedule
    that is squeezed into those epochs would not; there is no validation left to choose it by.
    Nothing ends a training early, and its last epoch is the one that counts.

    Raises:
        RunError: there is no ensemble, a member is gone or of another network, or none could be
            trained.
    """
    study = load_study(str(run.study_file))
    members = [_member(run, study, one) for one in read_json(run.path / ENSEMBLE)["members"]]
    again = Again(
        run,
        REFIT,
        tuple(recipe for recipe, _ in members),
        tuple(about for _, about in members),
        _on_all(read_splits(run.splits_file)),
    )
    said = (
        f"the members of {run.name}'s ensemble on training and validation images; validation "
        "figures are of images that were trained on, and say nothing"
    )
    return train(again, command, None, address, said)


def _member(run: RunFolder, study: Study, told: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a member to train again, and what it stands for."""
    trained = load_trained((run.path / told["place"]).resolve())
    owner = RunFolder.read(trained.place.parents[2])
    recipe = owner.trial(int(trained.folder.name)).recipe
    other = load_study(str(owner.study_file))
    if other.network_spec(recipe) != {
        **study.networks.get(recipe.architecture, {}), **recipe.network
    }:  # fmt: skip
        raise RunError(
            f"{owner.name}: its {recipe.architecture} is another network than that of {run.name}; "
            "make the ensemble of one search alone, then refit it"
        )
    epochs = int(trained.metrics["epoch"])
    changes = {"stop_after": epochs, "early_stopping": None, "gap_limit": None, "save_every": None}
    return recipe.model_copy(update=changes), {"place": told["place"], "epochs": epochs}


def _on_all(splits: Splits) -> Splits:
    """Splits whose training images are training's and validation's; the latter stay measured."""
    train = tuple(sorted({*splits.train, *splits.val}))
    return Splits(train, splits.val, splits.test, ON_ALL, splits.dropped)


def train(
    again: Again, command: str, study: Study | None, address: str | None, said: str
) -> RunFolder:
    """Train what is asked for; return its run, in which everything has ended.

    Args:
        study: other than the search's own.
        said: what is trained, for the plan.

    Raises:
        RunError: every training failed.
        KeyboardInterrupt: the training was interrupted; the same call goes on with it.
    """
    of = again.of
    before = again.find()
    if before and again.ended(before):
        make_console().print(f"trained before, in {escape(before.name)}: {escape(said)}")
        return before
    info = of.info
    job = Job(
        study or load_study(str(of.study_file)),
        of.output,
        info["seed"],
        command,
        info.get("named", of.path.parent.name),
        address,
        info.get("replaced", {}),
        (said, _estimate(again)),
        ensemble=False,
        again=again,
    )
    if before:
        code = session.resume(RunFolder.open(before.path), load_study(str(before.study_file)), job)
    else:
        code = session.begin(job)
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    run = again.find()
    if code or run is None:
        raise RunError(f"{of.name}: nothing could be trained again, see above")
    return run


def _estimate(again: Again) -> str:
    """How long the trainings take one after another, by what an epoch of the search took."""
    spent: dict[str, list[float]] = {}
    for record in again.of.trials():
        if record.epochs:
            known = spent.setdefault(record.recipe.architecture, [])
            known.append(record.seconds / record.epochs)
    every = [seconds for known in spent.values() for seconds in known]
    count = len(again.recipes)
    if not every:
        return f"{count} trainings"
    seconds = sum(
        one.last_epoch * mean(spent.get(one.architecture, every)) for one in again.recipes
    )
    return f"{count} trainings, about {duration(seconds)} one after another, by the search's epochs"
