"""The plan of a search, printed before anything is spent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.config import Choice, Dimension, Study
from raysearch.records.goals import places
from raysearch.records.terminal.text import facts, millions, network_text, states_text

FEW_CLASSES = 12  # More than these are not named one by one.


@dataclass(frozen=True)
class Network:
    """A network of the study as it will be built.

    Attributes:
        spec: its specification.
        parameters: how many it has.
        replaces: the specification that the profile put this one in place of; None where none.
    """

    name: str
    spec: Mapping[str, Any]
    parameters: int
    replaces: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that the plan says beyond the study itself.

    Attributes:
        images: how many, by split.
        class_share: each class's share of the training split's pixels or classified images.
        splits: "honest" or "official".
        rungs: epochs at which ASHA compares.
        slots: trials that run at once.
        per_trial: what one trial reserves, such as "1 worker x 2 CPU".
        device: as found, such as "CPU, float32".
        cluster: the one that was joined; "" for Ray of the command's own.
        begun: how many trials there are already, by state.
        notes: anything else to know beforehand, such as the profile that was chosen by itself.
    """

    study: Study
    data_path: Path
    images: Mapping[str, int]
    class_share: Mapping[str, float]
    digest: str
    splits: str
    networks: Sequence[Network]
    rungs: Sequence[int]
    slots: int
    per_trial: str
    launcher: str
    device: str
    output: Path
    cluster: str = ""
    begun: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def show_plan(console: Console, plan: Plan) -> None:
    """Print study, data, networks, space, start points, budget, machine and where results go."""
    study = plan.study
    console.rule(f"[bold]{escape(study.name)}[/]", align="left", style="dim")
    for note in plan.notes:
        console.print(f"[yellow]{escape(note)}[/]")
    table = facts()
    profile = f", profile {study.profile}" if study.profile else ""
    table.add_row("study", escape(f"{study.task}{profile}"))
    table.add_row("data", escape(_data_text(plan)))
    table.add_row("classes", escape(_classes_text(plan.class_share)))
    for index, network in enumerate(plan.networks):
        table.add_row("networks" if index == 0 else "", escape(_network_line(network, study)))
    for name, text in _sources(study):
        table.add_row(name, escape(text))
    table.add_row("objective", escape(_objective_text(study)))
    table.add_row("budget", escape(_budget_text(plan)))
    table.add_row("machine", escape(_machine_text(plan)))
    if plan.cluster:
        table.add_row("cluster", escape(plan.cluster))
    table.add_row("results", escape(str(plan.output)))
    begun = sum(plan.begun.values())
    if begun:
        table.add_row("so far", states_text(plan.begun))
    console.print(table)
    console.print()
    if study.space:
        console.print(_space_table(study))
    if not begun:
        _show_starts(console, study)


def _data_text(plan: Plan) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in plan.images.items() if count)
    return f"{plan.data_path}\n{counts} ({plan.splits} splits), digest {plan.digest[:12]}"


def _classes_text(shares: Mapping[str, float]) -> str:
    """Every class's share; of many classes the rarest and the most frequent."""
    told = {name: f"{name} {100 * share:.3g} %" for name, share in shares.items()}
    if len(told) <= FEW_CLASSES:
        return ", ".join(told.values())
    least, most = (told[pick(shares, key=lambda name: shares[name])] for pick in (min, max))
    return f"{len(told)} classes, from {least} to {most}"


def _sources(study: Study) -> Iterator[tuple[str, str]]:
    """What networks begin with and learn from, beside the data."""
    for index, (name, folder) in enumerate(study.init_from.items()):
        yield "" if index else "begin with", f"{name}  weights of {folder}"
    for index, folder in enumerate(study.teachers):
        yield "" if index else "teachers", str(folder)


def _objective_text(study: Study) -> str:
    objective, goal = study.objective, study.objective.goal
    text = f"{objective.metric}, {'lowest' if objective.mode == 'min' else 'highest'} wins"
    if goal is not None:
        ends = "ends the search" if study.budget.stop_at_goal else "is noted"
        text += f"\n{goal.metric} {places(goal.target)} {ends}"
        text += f", stretch {places(goal.stretch)}" if goal.stretch is not None else ""
    if objective.expected:
        count = len(objective.expected)
        text += f"\n{study.what.by_class} expected of {count} of {len(study.data.classes)} classes"
    return text


def _network_line(network: Network, study: Study) -> str:
    line = f"{network.name}  {network_text(network.spec)} ({millions(network.parameters)})"
    if network.replaces is None:
        return line
    return f"{line}\n  {study.profile or 'small'} replacement of {network_text(network.replaces)}"


def _budget_text(plan: Plan) -> str:
    budget = plan.study.budget
    limits = [_trials(budget.trials)] if budget.trials else []
    limits += [f"{budget.minutes:g} minutes"] if budget.minutes else []
    text = f"{' or '.join(limits)}, up to {budget.epochs} epochs each"
    if plan.rungs:
        rungs = ", ".join(map(str, plan.rungs))
        text += f"\nASHA compares within each architecture at epoch {rungs}"
    if budget.trials:
        least = budget.trials * (plan.rungs[0] if plan.rungs else budget.epochs)
        most = budget.trials * budget.epochs
        text += f"\nin all {most} epochs" if least == most else f"\nin all {least} to {most} epochs"
    return text


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _machine_text(plan: Plan) -> str:
    at_once = f"{_trials(plan.slots)} at once, {plan.per_trial} each"
    return f"{plan.device}; {at_once}; launcher {plan.launcher}"


def _space_table(study: Study) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
    table.add_column("searched", style="cyan", no_wrap=True)
    table.add_column("values", overflow="fold")
    table.add_column("only where", overflow="fold")
    for key, dimension in study.space.items():
        table.add_row(escape(key), escape(_values_text(dimension)), escape(_when_text(dimension)))
    return table


def _values_text(dimension: Dimension) -> str:
    if isinstance(dimension, Choice):
        return " | ".join("none" if value is None else str(value) for value in dimension.choices)
    step = f", step {dimension.step:g}" if dimension.step else ""
    kind = ", logarithmic" if dimension.log else ", whole numbers" if dimension.whole else ""
    return f"{dimension.low:g} to {dimension.high:g}{kind}{step}"


def _when_text(dimension: Dimension) -> str:
    return ", ".join(
        f"{key} is {' or '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in dimension.when.items()
    )


def _show_starts(console: Console, study: Study) -> None:
    starts = study.start_values()
    if starts:
        console.print(f"\n[bold]start points[/] [dim]tried first[/] {len(starts)}")
    for start in starts:
        values = ", ".join(f"{key} {value}" for key, value in start.items())
        console.print(f"  {escape(values)}", soft_wrap=not console.is_terminal)
    console.print()
