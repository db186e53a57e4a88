"""The page itself: one HTML file that needs no other."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray

from raysearch.records import confusion, pictures
from raysearch.records.files import write_text
from raysearch.records.importance import Comparison, comparison, importances
from raysearch.records.report import figures, tables, together
from raysearch.records.report.again import trained_again
from raysearch.records.report.figures import Picture, embedded
from raysearch.records.report.galleries import gallery, has_model
from raysearch.records.report.headline import headline, three
from raysearch.records.report.knobs import parallel_plot, slice_plots
from raysearch.records.report.known import Known, read_known
from raysearch.records.report.labels import doubts
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal.text import duration

TEMPLATE = Path(__file__).with_name("page.html")
NAME = "report.html"
TOP = 15


def write_report(run: RunFolder, path: Path | None = None) -> Path:
    """Write the page of a search in one step; into its folder where no path is given.

    Raises:
        RunError: no trial has begun, a record is damaged, or the path cannot be written.
    """
    known = read_known(run)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["coded"] = _coded
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    path = path or run.path / NAME
    write_text(path, template.render(**_values(known)))
    return path


def _coded(text: str) -> Markup:
    """Commands between backticks as code, everything else escaped."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )


def _values(known: Known) -> dict[str, Any]:
    """Return what the template shows."""
    best, study = known.best, known.study
    counts = _validation_counts(known)
    is_start = best is not None and best.number in known.starts
    return {
        "study": study,
        "name": known.run.name,
        "metric": known.metric,
        "best": best,
        "top": TOP,
        "headline": headline(known),
        "cards": _cards(known),
        "leaderboard": tables.leaderboard(known),
        "curves": _curves(known),
        "milestones": tables.milestones(known),
        **_learned(known),
        **_speed(known),
        "classes": tables.class_rows(known, counts),
        "of_classes": "IoU" if study.what.segments else "accuracy",
        "counted": "pixels" if study.what.segments else "images",
        "tested": known.tested is not None,
        "model": known.model_before is not None,
        "model_tested": known.model is not None,
        "expected": bool(study.objective.expected),
        "starts": tables.start_points(known),
        "answers": known.answers,
        "is_start": is_start,
        "gains_shown": bool(known.started_from)
        and (known.model_before is not None or not is_start),
        "confusions": _confusions(known, counts),
        "gallery": gallery(known),
        "shown_model": known.answers if has_model(known) else "the best trial",
        "tuned": study.what.binary and best is not None and best.best_metrics.get("threshold"),
        **_calibration(known),
        "doubts": doubts(known),
        "again": trained_again(known),
        "members": together.members(known),
        "steps": together.steps(known),
        "choices": together.choices(known),
        "gains": together.sentences(known),
        "verdict": together.verdict(known),
        "findings": known.info.get("findings", []),
        "facts": tables.facts(known),
        "replaced": tables.replaced(known),
        "champion": tables.champion(known),
        "repeat": tables.repeat_command(known),
    }


def _cards(known: Known) -> list[tuple[str, str, str]]:
    """Figures beside the headline's: value, what it is, and a word on it."""
    best, cards = known.best, []
    if best is None:
        return []
    test = known.tested
    if known.model is not None and test is not None and known.together > 1:
        words = f"trial {best.number}, {best.recipe.architecture}"
        value = three(test["metrics"].get(known.metric))
        cards.append((value, "best single trial, on test", words))
    if known.model_before is not None:
        value = three(known.model_before["metrics"].get(known.metric))
        cards.append((value, f"{known.answers}, on validation", "what it was chosen by"))
    elif test is not None:
        words = f"trial {best.number}, epoch {best.best_epoch}: what it was chosen by"
        cards.append((three(best.value), f"{known.metric} on validation", words))
    starts = known.started_from
    if starts:
        words = f"trial {starts[0].number}, {starts[0].recipe.architecture}"
        cards.append((three(starts[0].value), "best start point, on validation", words))
    baseline = known.summary.get("baseline")
    if baseline:
        cards.append((three(baseline["value"]), "trivial answer, on validation", baseline["name"]))
    seconds = known.summary.get("seconds")
    if seconds:
        count = len(known.records)
        trials = "1 trial" if count == 1 else f"{count} trials"
        cards.append((duration(seconds), "of search", trials))
    return cards


def _curves(known: Known) -> list[tuple[str, Picture]]:
    """Learning curves and the best value over time, where any epoch was measured."""
    records, objective = known.records, known.study.objective
    if not any(record.history for record in records):
        return []
    drawn = [
        (
            "Learning curves",
            embedded(
                f"{known.metric} by epoch, one line a trial",
                lambda path: pictures.learning_curves(records, objective, path),
            ),
        ),
        (
            "",
            embedded(
                f"best {known.metric} over the minutes of the search",
                lambda path: pictures.best_so_far(records, objective, known.run.clock(), path),
            ),
        ),
    ]
    best = known.best
    if best is not None:
        task = known.study.what
        words = f"loss and scores of trial {best.number} by epoch"
        curve = embedded(words, lambda p: pictures.trial_curves(best, objective, task, p))
        drawn.append((f"The best trial, {best.name}", curve))
    return drawn


def _learned(known: Known) -> dict[str, Any]:
    """What the search has learned about its knobs, of a search that has any."""
    nothing: dict[str, Any] = {
        "mattered": "", "importances": None, "slices": [], "parallel": None, "compared": "",
    }  # fmt: skip
    if not known.study.space:
        return nothing
    learned, compared = importances(known.run.journal), comparison(known.run.journal)
    shown = nothing | {"mattered": learned.note}
    if learned.shares:
        shown["importances"] = embedded(
            "share of each knob in the differences between trials",
            partial(figures.draw_importances, learned),
        )
    return shown | _plots(known, compared, list(learned.shares)) if compared else shown


def _plots(known: Known, compared: Comparison, first: list[str]) -> dict[str, Any]:
    count = len(compared.trials)
    return {
        "compared": f"{count} trials, each with its best {known.metric} up to epoch "
        f"{compared.epoch}, which three quarters of all trials have reached",
        "slices": slice_plots(compared, known.metric, first),
        "parallel": parallel_plot(compared, known.metric, first),
    }


def _speed(known: Known) -> dict[str, Any]:
    told, objective = figures.speeds(known), known.study.objective
    if not told:
        return {"speed": None, "front": []}
    picture = embedded(
        f"{known.metric} over milliseconds an image, with the Pareto front",
        lambda path: figures.draw_speeds(told, objective, path),
    )
    return {"speed": picture, "front": figures.front(told, objective)}


def _calibration(known: Known) -> dict[str, Any]:
    rows, where = together.reliabilities(known)
    if not rows:
        return {"calibration": None, "calibrated_on": ""}
    words = f"how often answers are right over how sure they are, on {where}"
    return {
        "calibration": embedded(words, partial(figures.draw_reliability, rows)),
        "calibrated_on": where,
    }


def _validation_counts(known: Known) -> NDArray[np.int64] | None:
    if known.best is None:
        return None
    path = known.run.trial_folder(known.best.number) / confusion.FILE
    return confusion.read_confusion(path, known.study.what.num_classes)


def _confusions(known: Known, validation: NDArray[np.int64] | None) -> list[tuple[str, Picture]]:
    """The confusion matrix of validation, and that of test where it was opened and kept."""
    counts: dict[str, NDArray[np.int64]] = {}
    if validation is not None:
        counts["best trial, on validation"] = validation
    if known.tested and known.tested.get("confusion"):
        counts["best trial, on test"] = np.asarray(known.tested["confusion"], dtype=np.int64)
    if known.model and known.model.get("confusion"):
        counts[f"{known.answers}, on test"] = np.asarray(known.model["confusion"], dtype=np.int64)
    classes = known.study.data.classes
    return [
        (
            where,
            embedded(
                f"which class is taken for which other {where}",
                partial(confusion.draw_confusion, matrix, classes),
            ),
        )
        for where, matrix in counts.items()
    ]
