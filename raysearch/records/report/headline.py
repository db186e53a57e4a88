"""What a search found, and how sure that is, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from raysearch.records.goals import expectations, places
from raysearch.records.leaderboard import count_states
from raysearch.records.report.known import Known
from raysearch.records.terminal.text import duration, states_text

STATES = {
    "completed": ("ran to its end", "ran to their end"),
    "pruned": ("was cut by ASHA", "were cut by ASHA"),
    "stopped": ("was stopped when the search ended", "were stopped when the search ended"),
    "failed": ("failed", "failed"),
    "running": ("is still running", "are still running"),
}
SMALL = 100  # Images: below these an interval is wide whatever the network.


@dataclass(frozen=True)
class Headline:
    """The figure that counts.

    Attributes:
        value: with three places; "-" where there is none.
        label: what the value is, such as "top1 on test images".
        beside: its interval, or why there is none.
        sure: whether it was measured on images that nothing was chosen by.
    """

    value: str
    label: str
    beside: str
    sure: bool
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]


def headline(known: Known) -> Headline:
    """Put a search into words: the test figure where it was opened, else validation's, said so."""
    value, label, beside, sure = _figure(known)
    sentences = [_searched(known), *_found(known), *_compared(known)]
    return Headline(value, label, beside, sure, tuple(sentences), tuple(_cautions(known)))


def _figure(known: Known) -> tuple[str, str, str, bool]:
    if known.best is None:
        return "-", known.metric, "no trial has a value yet", False
    model, split = known.model, (known.ensemble or {}).get("test") or {}
    if model is not None and model["metrics"].get(known.metric) is not None:
        ends = model_interval(known, known.metric)
        told, sure = _measured_on(ends, split["images"], split.get("opened", 1))
        value = three(model["metrics"][known.metric])
        return value, f"{known.metric} on test images", f"{known.answers}: {told}", sure
    test = known.tested
    if test is not None and test["metrics"].get(known.metric) is not None:
        ends = interval(known, known.metric)
        text, sure = _measured_on(ends, test["images"], test.get("opened", 1))
        return three(test["metrics"][known.metric]), f"{known.metric} on test images", text, sure
    text = "the best of many trials on the images that they were chosen by: expect less elsewhere"
    return three(known.best.value), f"{known.metric} on validation images", text, False


def _measured_on(ends: Sequence[float] | None, images: int, opened: int) -> tuple[str, bool]:
    """The interval and the images of a test figure, and whether nothing was chosen by them."""
    told = f"95 % interval {ends[0]:.3f} to {ends[1]:.3f}, " if ends else "no interval, "
    if opened > 1:
        return f"{told}{images} images, opened {opened} times", False
    return f"{told}{images} images that nothing was chosen by", True


def interval(known: Known, metric: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a test figure: Wilson's where there is one, else bootstrap's."""
    test = known.tested or {}
    ends = {**test.get("intervals", {}), **test.get("wilson", {})}.get(metric)
    return (float(ends[0]), float(ends[1])) if ends else None


def model_interval(known: Known, metric: str) -> Sequence[float] | None:
    """Return the 95 % interval of the ensemble's model on test, as `interval` does."""
    model = known.model or {}
    found: Sequence[float] | None = {
        **model.get("intervals", {}),
        **model.get("wilson", {}),
    }.get(metric)
    return found


def _searched(known: Known) -> str:
    """What was searched, for how long, and what became of the trials."""
    networks = {record.recipe.architecture for record in known.records}
    seconds = known.summary.get("seconds")
    took = f" in {duration(seconds)}" if seconds else ""
    device = known.summary.get("device")
    where = f" on {device}" if device else ""
    counts = {state: n for state, n in count_states(known.records).items() if n}
    ends = [f"{count} {STATES[state][count > 1]}" for state, count in counts.items()]
    kinds = "1 architecture" if len(networks) == 1 else f"{len(networks)} architectures"
    trials = "1 trial" if len(known.records) == 1 else f"{len(known.records)} trials"
    verb = "was" if len(known.records) == 1 else "were"
    return f"{trials} of {kinds} {verb} trained{took}{where}: {', '.join(ends)}."


def _found(known: Known) -> list[str]:
    """The best trial, what it scores on validation and on test, and what was hoped for."""
    best, study = known.best, known.study
    if best is None:
        return ["No trial has a value yet."]
    where = f"Trial {best.number} ({best.recipe.architecture}) is the best"
    found = [
        f"{where}: {known.metric} {three(best.value)} on validation at epoch {best.best_epoch}."
    ]
    test = known.tested
    if test is not None and known.metric in test.get("drop", {}):
        lost = test["drop"][known.metric]
        found.append(
            f"On test images it scores {three(test['metrics'].get(known.metric))}, "
            f"{abs(lost):.3f} {'less' if lost > 0 else 'more'} than on the validation images that "
            "it was chosen by."
        )
    goal = known.summary.get("goal")
    if goal:
        target = f"The goal, {goal['metric']} {places(goal['target'])},"
        told = goal["reached"].get("target")
        found.append(
            f"{target} was reached by trial {told['trial']} at epoch {told['epoch']}, "
            f"{duration(told['seconds'])} into the search."
            if told
            else f"{target} was not reached."
        )
    hopes = expectations(study, best.best_metrics)
    if hopes:
        found.append(f"Of what the study expects of its classes, {hopes} on validation.")
    return found


def _compared(known: Known) -> list[str]:
    """The best trial against a trivial answer, and against the recipes that it began with."""
    best, told = known.best, []
    if best is None or best.value is None:
        return []
    baseline = known.summary.get("baseline")
    if baseline:
        name = baseline["name"]
        told.append(f"For comparison, {name} scores {three(baseline['value'])} on validation.")
    starts = known.started_from
    if starts and best.number == starts[0].number:
        told.append(
            "It is one of the start points that the study brought along: the search has found "
            "nothing better than the recipe that it began with."
        )
    elif starts:
        first = starts[0]
        told.append(
            f"That is {abs(best.value - (first.value or 0.0)):.3f} better than the best start "
            f"point that the study brought along (trial {first.number}, {three(first.value)} in "
            f"{first.epochs} epochs; {len(starts)} in all)."
        )
    return told


def _cautions(known: Known) -> list[str]:
    """What a reader must know before believing the figure."""
    told = _cautions_of_figure(known) if known.best is not None else []
    running = count_states(known.records)["running"]
    if running:
        told.append(f"The search has not ended: {states_text({'running': running})}.")
    return told


def _cautions_of_figure(known: Known) -> list[str]:
    told: list[str] = []
    test, info = known.test, known.info
    if test is None and info.get("splits") == "official":
        told.append(
            "The lists of the data set were used as they are, so no images were kept aside: there "
            "is no honest test figure, and this is a validation figure."
        )
    elif test is None:
        told.append(
            "The test split has not been opened. The figure above is a validation figure: the best "
            "of all trials on the very images that they were compared on, and so too high. "
            f"`python -m raysearch.evaluate {known.run.name}` measures it honestly, once."
        )
    elif known.tested is None and known.model is None:
        told.append(
            f"The test split was opened for trial {test.get('trial')}, not for the best one "
            f"({three(test['metrics'].get(known.metric))} there); the figure above is a validation "
            "figure."
        )
    if test is not None and test.get("opened", 1) > 1:
        told.append(
            f"The test split has been opened {test['opened']} times: what is chosen by its figures "
            "is no longer measured by them."
        )
    if known.model is None and known.ensemble is not None and info.get("splits") != "official":
        told.append("The ensemble was made without opening the test split: it has no test figure.")
    images = test["images"] if test is not None else SMALL
    if images < SMALL:
        told.append(
            f"The test split has {images} images only; the interval says how little these can tell."
        )
    if known.best is not None and known.best.collapsed:
        told.append("The best trial predicts one class alone.")
    return told


def three(value: float | None) -> str:
    """Return a score with three places, or a dash."""
    return "-" if value is None or value != value else f"{value:.3f}"
