"""Optuna behind Tune's interface, with the journal as the search's only memory.

A trial's number in the journal is its identity. A search that was broken off leaves trials in
state RUNNING there; they are handed out again, under their number, before anything new is asked
for, and find their own checkpoints. Nothing of Tune's own (pickled) state is needed to resume.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from raysearch.config import Recipe, Study
from raysearch.errors import ConfigError
from raysearch.records.journal import START, mend
from raysearch.search.book import Book
from raysearch.search.losses import BESIDE, MEMORY
from raysearch.search.space import suggest, told

BEGUN = tuple(state for state in TrialState if state != TrialState.WAITING)


def open_journal(path: Path, study: Study, seed: int) -> optuna.Study:
    """Open a search's Optuna study, or create it with the start points queued."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mend(path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    directions = optuna.study.StudyDirection
    direction = directions.MAXIMIZE if study.objective.mode == "max" else directions.MINIMIZE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        journal = optuna.create_study(
            storage=storage, study_name=study.name, direction=direction, load_if_exists=True
        )
        # Each session draws numbers of its own, or it would repeat the last one's random trials.
        begun = len(journal.get_trials(deepcopy=False, states=BEGUN))
        journal.sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=8,
            seed=int(np.random.SeedSequence([seed, begun]).generate_state(1)[0]),
        )  # fmt: skip
    queued = {trial.user_attrs.get(START) for trial in journal.get_trials(deepcopy=False)}
    for number, point in enumerate(study.start_values()):
        if number not in queued:
            journal.enqueue_trial(told(study, point), user_attrs={START: number})
    return journal


class OptunaSearcher(Searcher):
    """Suggests trials. What comes of them is told to the journal by `Book`'s `tell`.

    Args:
        given: recipes to train instead, each as the trial of its place; nothing is sampled then.
        stopping: asked before each trial; whether no more are to begin.
    """

    def __init__(
        self,
        study: Study,
        journal: optuna.Study,
        seed: int,
        book: Book,
        given: Sequence[Recipe] = (),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(metric=study.objective.metric, mode=study.objective.mode)
        self.study, self.journal, self.seed, self.book = study, journal, seed, book
        self.starts, self.given, self.stopping = study.start_values(), given, stopping
        self.out: dict[str, int] = {}
        self.suspects: set[int] = set()
        self.beside: dict[int, set[int]] = {}
        self.broken_off = [
            trial.number
            for trial in journal.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if trial.number not in book.ended
        ]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return Tune's config of the next trial: its number, architecture and whole recipe.

        There is none for now (None) where one that is out may yet have to be handed out again.
        """
        waiting = self._waiting()
        if self.stopping() or not (waiting or self._more()):
            return None if self.out else Searcher.FINISHED
        trial = self._next(waiting)
        try:
            recipe = self.given[trial.number] if self.given else self._sampled(trial)
        except ConfigError:
            self.journal.tell(trial, state=TrialState.FAIL)  # It must not come again on a resume.
            raise
        self.book.begin(trial.number, recipe)
        self.out[trial_id] = trial.number
        return {
            "number": trial.number,
            "architecture": recipe.architecture,
            "recipe": recipe.model_dump(),
        }

    def _sampled(self, trial: optuna.Trial) -> Recipe:
        start = trial.user_attrs.get(START)
        point: Mapping[str, Any] = self.starts[start] if start is not None else {}
        return self.study.recipe(suggest(trial, self.study, point), self.seed)

    def _more(self) -> bool:
        """Whether the budget has trials left that were never begun."""
        most = self.study.budget.trials
        return most is None or len(self.book.records) < most

    def _waiting(self) -> list[int]:
        """Trials to hand out again now: of the suspects one at a time."""
        out = set(self.out.values())
        held = {number for number, others in self.beside.items() if others & out}
        held |= self.suspects if self.suspects & out else set()
        return [number for number in self.broken_off if number not in held]

    def _next(self, waiting: Sequence[int]) -> optuna.Trial:
        if not waiting:
            return self.journal.ask()
        self.broken_off.remove(waiting[0])
        self.beside.pop(waiting[0], None)
        frozen: FrozenTrial = self.journal.get_trials(deepcopy=False)[waiting[0]]
        return optuna.Trial(self.journal, frozen._trial_id)

    def hand_out_again(self, number: int, reason: str) -> None:
        """Take back a trial whose processes were lost; it is suggested before anything new.

        Of the trials that a node's memory was too small for, no two train at the same time, so that
        the one to blame can be told from those that were killed with it. One that was killed while
        the one to blame lives on waits until all that now train have left.

        Args:
            reason: one of `raysearch.search.losses`.
        """
        self.broken_off.append(number)
        if reason in (MEMORY, BESIDE):
            self.suspects.add(number)
        if reason == BESIDE:
            self.beside[number] = set(self.out.values()) - {number}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Only forget it: the callback tells how a trial ended, with its reason."""
        self.out.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is on the disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the memory."""

    def __getstate__(self) -> dict[str, Any]:
        return {"_metric": self._metric, "_mode": self._mode}


def tell(journal: optuna.Study, number: int, state: str, values: Mapping[int, float]) -> None:
    """Tell the journal how a trial ended: {epoch: value} and one of the states of a record.

    A trial that was stopped is pruned and never a score; one that failed is failed.
    """
    frozen = journal.get_trials(deepcopy=False)[number]
    if frozen.state.is_finished():
        return
    trial = optuna.Trial(journal, frozen._trial_id)
    for epoch, value in values.items():
        if epoch not in frozen.intermediate_values:
            trial.report(value, epoch)
    if state == "completed" and values:
        best = max if journal.direction == optuna.study.StudyDirection.MAXIMIZE else min
        journal.tell(trial, best(values.values()))
    else:
        journal.tell(trial, state=TrialState.FAIL if state == "failed" else TrialState.PRUNED)
