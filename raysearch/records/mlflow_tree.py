"""A run folder as a tree of MLflow runs: one parent for the search, one child for each trial.

Everything is copied from the run folder and nothing is told twice: runs are found again by their
tags, and only epochs that a run lacks are sent. So the same call serves a running search, a resumed
one, and one whose server was away.
"""

import gc
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from posixpath import normpath
from typing import Any

from raysearch.config import Study
from raysearch.records.goals import expectations, reached
from raysearch.records.run_folder import ERROR, RECIPE, RunFolder
from raysearch.records.trial_record import TrialRecord

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
SEARCH, ROLE, RECORDED = "raysearch.search", "raysearch.role", "raysearch.recorded"
STATUS = {"completed": "FINISHED", "pruned": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}

# Said elsewhere: as the step, the time, a tag, or in the summary.
NO_METRICS = ("epoch", "time", "finished", "best", "best_epoch", "parameters")
SUMMARY_METRICS = ("seconds", "busy_share", "gpu_hours")
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100  # MLflow's own limits.

# Read by MLflow when it is imported or used: silence, nothing sent home, and quick failures.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
# Said of MLflow's own code when it is imported, and of a model whose images are not at hand.
SILENCED = ("type hint is inferred as AnyType", "An input example was not provided")


def tracking_uri(output: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the database in an output folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{output.absolute() / DATABASE}"


def connect(uri: str) -> Any:
    """Return an MlflowClient of a tracking server or database; nothing global is set."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    for text in SILENCED:
        warnings.filterwarnings("ignore", f".*{text}", UserWarning)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # Also where MLflow was imported before us.
    return MlflowClient(tracking_uri=uri)


class MlflowTree:
    """The MLflow runs of one search.

    Args:
        client: an MlflowClient.
    """

    def __init__(self, client: Any, run: RunFolder, study: Study) -> None:
        self.client, self.run, self.study, self.info = client, run, study, run.info
        self.experiment = self._experiment()
        self.parent = self._parent()
        self.children: dict[int, str] = {}
        self.began: dict[int, int] = {}
        self.sent: dict[int, set[int]] = {}
        self.recorded: dict[int, str] = {}
        self.ended: dict[int, str] = {}

    def _experiment(self) -> str:
        """One experiment a study; artifacts of the local database stand beside it."""
        name = self.study.name
        known = self.client.get_experiment_by_name(name)
        if known is None:
            local = self.client.tracking_uri.startswith("sqlite:")
            folder = (self.run.output / ARTIFACTS / name).as_uri() if local else None
            return str(self.client.create_experiment(name, artifact_location=folder))
        if known.lifecycle_stage == "deleted":
            self.client.restore_experiment(known.experiment_id)
        return str(known.experiment_id)

    def find(self, tags: Mapping[str, str]) -> Any | None:
        """Return a run of the study's experiment that has these tags."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([self.experiment], wanted, max_results=1)
        return found[0] if found else None

    def _parent(self) -> str:
        identity = {SEARCH: self.info["id"], ROLE: "search"}
        found = self.find(identity)
        if found is not None:
            return str(found.info.run_id)
        tags = {**identity, **self.common_tags(), "run": self.run.path.name}
        started = _milliseconds(self.info["started"])
        parent = self.client.create_run(self.experiment, started, tags, self.run.name).info.run_id
        study, budget = self.study, self.study.budget
        params = {"metric": study.objective.metric, "mode": study.objective.mode}
        goal = study.objective.goal
        params |= {
            f"goal.{key}": value for key, value in (goal.model_dump() if goal else {}).items()
        }
        params |= {f"budget.{key}": value for key, value in budget.model_dump().items()}
        self.params(parent, params | {"searched": ", ".join(study.space)})
        if self.run.study_file.is_file():
            self.client.log_artifact(parent, str(self.run.study_file))
        return str(parent)

    def common_tags(self) -> dict[str, str]:
        """Return what is true of every run of this search."""
        info = self.info
        tags = {
            "study": self.study.name,
            "task": self.study.task,
            "profile": self.study.profile,
            "seed": info.get("seed"),
            "data_digest": info.get("data_digest"),
            "splits": info.get("splits"),
            "mlflow.user": info.get("user"),
            "mlflow.source.name": info.get("command"),
            "mlflow.source.type": "LOCAL",
            **{f"version.{name}": v for name, v in (info.get("versions") or {}).items()},
        }
        return {key: str(value) for key, value in tags.items() if value is not None}

    def reopen(self) -> None:
        """Mark the search as running."""
        self.client.update_run(self.parent, status="RUNNING")

    def close(self) -> None:
        """Record what came of the search; one without a summary was broken off."""
        for number in self.run.numbers():
            if number in self.children and self.run.trial(number).state == "running":
                self.client.set_terminated(self.children[number], "KILLED")
        summary = self.run.summary()
        if not summary:
            self.client.set_terminated(self.parent, "KILLED")
            return
        when, trials = self.run.summary_file.stat().st_mtime, summary["trials"]
        numbers = {key: value for key, value in summary.items() if key in SUMMARY_METRICS}
        numbers |= {f"trials_{state}": count for state, count in trials.items()}
        numbers |= self._beside(summary)
        if summary["best"]:
            numbers[summary["metric"]] = summary["best"]["value"]
            self.client.set_tag(self.parent, "best_trial", str(summary["best"]["trial"]))
        self.metrics(self.parent, [(numbers, when, sum(trials.values()))])
        run = self.run
        files = [run.leaderboard, run.best_file, run.study_file, run.summary_file, run.info_file]
        for path in [*files, run.test_file, *sorted(run.path.glob("*.png"))]:
            if path.is_file() and not path.is_symlink():
                self.client.log_artifact(self.parent, str(path))
        status = "KILLED" if trials["running"] else "FINISHED"
        self.client.set_terminated(self.parent, status, _milliseconds(when))

    def _beside(self, summary: Mapping[str, Any]) -> dict[str, float]:
        """Tag what the goal came to and what the baseline is; return the baseline's value."""
        if summary.get("goal"):
            reached = [level for level, found in summary["goal"]["reached"].items() if found]
            self.client.set_tag(self.parent, "goal_reached", (reached or ["no"])[-1])
        if summary.get("expectations"):
            self.client.set_tag(self.parent, "expectations", summary["expectations"])
        if not summary.get("baseline"):
            return {}
        self.client.set_tag(self.parent, "baseline", summary["baseline"]["name"])
        return {"baseline": summary["baseline"]["value"]}

    def trial(self, number: int) -> bool:
        """Bring one trial's run up to date with its folder.

        Returns:
            Whether it has ended and its `files` are still to be kept, which takes longer.
        """
        record = self.run.trial(number)
        child = self.children.get(number) or self._child(record)
        end = _end_of(record)
        if self.recorded.get(number) == end:
            return False
        self._epochs(child, record)
        if record.state != "running" and self.ended.get(number) != end:
            self._end(child, record)
            self.ended[number] = end
        return record.state != "running"

    def files(self, number: int) -> None:
        """Draw an ended trial's pictures, and keep them and its files."""
        from raysearch.records.gallery import draw_trial  # Matplotlib takes a while to import.

        record, child = self.run.trial(number), self.children[number]
        for path in draw_trial(self.run, self.study, record):
            self.picture(child, path, record.best_epoch or 0)
        gc.collect()  # Figures are cycles of megabytes, which pile up until Python looks for them.
        for name in (RECIPE, ERROR):
            path = self.run.trial_folder(number) / name
            if path.is_file() and not path.is_symlink():
                self.client.log_artifact(child, str(path))
        self.recorded[number] = _end_of(record)
        self.client.set_tag(child, RECORDED, self.recorded[number])

    def _child(self, record: TrialRecord) -> str:
        identity = {SEARCH: self.info["id"], ROLE: "trial", "trial": str(record.number)}
        found = self.find(identity)
        if found is None:
            tags = {**identity, **self.common_tags(), **self._trial_tags(record)}
            started = _milliseconds(_started(record))
            found = self.client.create_run(self.experiment, started, tags, record.name)
            sent: set[int] = set()
        else:
            metric = self.study.objective.metric
            sent = {m.step for m in self.client.get_metric_history(found.info.run_id, metric)}
        child = str(found.info.run_id)
        self.params(child, record.recipe.flat(), found.data.params)
        self.children[record.number], self.sent[record.number] = child, sent
        self.recorded[record.number] = found.data.tags.get(RECORDED, "")
        self.began[record.number] = int(found.info.start_time)
        if record.state == "running" and found.info.status != "RUNNING":
            self.client.update_run(child, status="RUNNING")
        return child

    def _trial_tags(self, record: TrialRecord) -> dict[str, str]:
        spec = self.study.network_spec(record.recipe)
        return {
            "mlflow.parentRunId": self.parent,
            "architecture": record.recipe.architecture,
            "network": ", ".join(f"{key} {value}" for key, value in spec.items()),
            "state": "running",
            "seed": str(record.recipe.seed),
        }

    def _epochs(self, child: str, record: TrialRecord) -> None:
        sent = self.sent[record.number]
        new = [m for m in record.history if m["epoch"] not in sent]
        self.metrics(child, [(m, m["time"], m["epoch"]) for m in new])
        sent |= {metrics["epoch"] for metrics in new}

    def _end(self, child: str, record: TrialRecord) -> None:
        from mlflow.entities import RunTag

        tags = {
            "state": record.state,
            "reason": record.reason,
            "collapsed": str(record.collapsed).lower(),
            "best_epoch": record.best_epoch,
            "parameters": record.parameters,
            "goal_reached": reached(record, self.study.objective.goal) or None,
            "expectations": expectations(self.study, record.best_metrics),
        }
        told = [RunTag(key, str(value)) for key, value in tags.items() if value is not None]
        self.client.log_batch(child, tags=told, synchronous=True)
        ended = record.history[-1]["time"] if record.history else time.time()
        if record.value is not None:
            best = {f"best_{self.study.objective.metric}": record.value}
            self.metrics(child, [(best, ended, record.best_epoch or 0)])
        # Where a node's clock was behind, it is no negative duration.
        last = max(self.began[record.number], _milliseconds(ended))
        self.client.set_terminated(child, STATUS[record.state], last)

    def picture(self, run_id: str, path: Path, step: int) -> None:
        """Keep a picture; predictions also where MLflow shows those of several runs together."""
        from PIL import Image

        from raysearch.records.gallery import PREDICTIONS

        self.client.log_artifact(run_id, str(path), "pictures")
        if path.name == PREDICTIONS:
            with Image.open(path) as image:
                self.client.log_image(run_id, image, key=path.stem, step=step)

    def metrics(self, run_id: str, points: Sequence[tuple[Mapping[str, Any], float, int]]) -> None:
        """Send (values, time, step), an epoch's values always together where MLflow allows."""
        from mlflow.entities import Metric

        epochs = [
            [Metric(k, float(v), _milliseconds(when), step) for k, v in _numbers(values).items()]
            for values, when, step in points
        ]
        for batch in _packed(epochs, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch, synchronous=True)

    def params(
        self, run_id: str, values: Mapping[str, Any], known: Mapping[str, str] | None = None
    ) -> None:
        from mlflow.entities import Param

        new = [Param(key, str(v)) for key, v in values.items() if key not in (known or {})]
        for batch in _chunks(new, PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=batch, synchronous=True)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among metrics, under names that MLflow takes."""
    return {
        _name(key): value
        for key, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value) and key not in NO_METRICS
    }


def _name(metric: str) -> str:
    """A metric's name as MLflow takes it: few signs, and a path that leads nowhere else."""
    name = re.sub(r"[^\w\-. :/]", "_", metric)
    if normpath(name) == name:
        return name
    room, slash, inner = name.partition("/")
    return room + slash + re.sub(r"[/.]", "_", inner)


def _packed(epochs: Sequence[list[Any]], limit: int) -> Iterator[list[Any]]:
    """Join short lists up to a limit, and split only what is longer than that alone."""
    batch: list[Any] = []
    for epoch in epochs:
        if len(batch) + len(epoch) > limit:
            yield from _chunks(batch, limit)
            batch = []
        batch = batch + epoch
    yield from _chunks(batch, limit)


def _chunks(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch


def _end_of(record: TrialRecord) -> str:
    return f"{record.state} {record.epochs}"


def _started(record: TrialRecord) -> float:
    if not record.history:
        return time.time()
    first = record.history[0]
    return float(first["time"]) - sum(v for k, v in first.items() if k.endswith("_seconds"))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
