"""What a command asks for, and that made ready: its input checked, its cluster joined."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raysearch import cluster
from raysearch.config import Study
from raysearch.data import Data
from raysearch.data.splits import Splits, read_splits
from raysearch.errors import ConfigError, RunError
from raysearch.inference.evaluation import other_data
from raysearch.records.again import Again
from raysearch.records.evaluation import cache_folder
from raysearch.records.leaderboard import count_states
from raysearch.records.repeat import Repeated
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import Network, Plan
from raysearch.records.trial_record import TrialRecord
from raysearch.search.checks import check_batches, check_data, check_networks, check_parts
from raysearch.search.context import Context
from raysearch.search.mirror import check_storage, shared_caches, storage_notes, storage_of
from raysearch.search.prepare import (
    Prepared,
    bring_weights,
    check_writable,
    loader_workers,
    locate,
    prepare,
)
from raysearch.search.schedule import rungs
from raysearch.search.sources import check_sources, check_unseen
from raysearch.study import given, single
from raysearch.training.device import find_device


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
            storage=storage_of(self.study, run.path),
            shared=shared_caches(self.study, self.job.output),
        )


@contextmanager
def made_ready(job: Job) -> Iterator[Ready]:
    """Check all input before anything is reserved or written; then join the cluster.

    Raises:
        RaysearchError: anything that cannot be used, with what, where and the repair.
    """
    check_writable(job.output)
    check_storage(job.study)
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


def planned(ready: Ready, output: Path, begun: Sequence[TrialRecord] = ()) -> Plan:
    """Say what a job that is made ready will do, beside the trials that have begun already."""
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
        cluster=_cluster_text(ready),
        output=output,
        begun=count_states(begun),
        notes=(*ready.prepared.notes, *slots.notes, *storage_notes(study)),
    )


def _cluster_text(ready: Ready) -> str:
    """The cluster that was joined, and how much of it can train; "" for Ray of this command."""
    address, nodes = cluster.find_address(ready.job.address), ready.slots.nodes
    return f"{address}, {nodes} node{'s' * (nodes != 1)} for trials" if address else ""
