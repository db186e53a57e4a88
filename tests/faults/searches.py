"""A tiny real search of the animals study, as a process of its own, for faults to happen to."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raysearch.data.sample import generate
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.study import find, read_yaml

TRACKING = "MLFLOW_TRACKING_URI"
ELSEWHERE = ("RAY_ADDRESS", TRACKING)  # what a search of a test must not know
# Ray's workers would wait for all else that a busy machine does.
SETTINGS = {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
EPOCHS = 6
TRIAL, WORKER = "ray::ImplicitFunc", "ray::RayTrainWorker"  # titles of processes
LISTED = {"train": 8, "val": 2, "test": 2}  # images of each class
UNET = {"type": "unet", "width": 4, "depth": 2}


@cache
def sample_data() -> Path:
    """Generate the animals' sample data once for all tests; its lists are cut short."""
    folder = Path(tempfile.mkdtemp(prefix="animals-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = generate("animals", folder)
    for path in data.glob("*/ImageSets/Segmentation/*.txt"):
        names = path.read_text(encoding="utf-8").splitlines()[: LISTED[path.stem]]
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return data


def write_study(path: Path, **changes: Any) -> None:
    """Write the animals study at a tiny size; `changes` replace keys of its parts."""
    study, data = read_yaml(find("animals")), sample_data()
    study |= {
        "data": {**study["data"], "path": str(data)},
        "networks": {"unet": UNET, "attention_unet": {**UNET, "type": "attention_unet"}},
        "space": {
            "architecture": ["unet", "attention_unet"],
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        },
        "fixed": {"image_size": 64, "crop_size": 64, "batch_size": 4, "schedule": "cosine"},
        "start": [],
        "budget": {"trials": 4, "epochs": EPOCHS, "first_rung": 1.0},
        "profiles": {},
        "resources": {"cache": str(data.parent / "cache")},
    }
    for part, values in changes.items():
        study[part] = {**study[part], **values}
    path.write_text(yaml.safe_dump(study), encoding="utf-8")


class Search:
    """The study in a folder, the command that searches there, and what it has written."""

    def __init__(self, folder: Path, *, within: Sequence[str] = (), **changes: Any) -> None:
        """
        Args:
            within: what the command is run by, such as `ip netns exec NAME`.
            changes: of the study, see `write_study`.
        """
        self.folder, self.within = folder, within
        self.output_file = folder / "output.txt"
        write_study(folder / "animals.yaml", **changes)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        known = {k: v for k, v in os.environ.items() if k not in ELSEWHERE}
        command = [sys.executable, "-m", "raysearch.tune", "animals.yaml", "--no-ensemble"]
        if "--address" not in arguments:
            command += ["--address", "local"]
        with self.output_file.open("w") as file:
            return subprocess.Popen(
                [*self.within, *command, *arguments],
                cwd=self.folder,
                env={**known, **SETTINGS, **(env or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Search to the end."""
        assert self.start(*arguments, env=env).wait(timeout=400) == code, self.output
        return self.output

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        """End it in order, as Ctrl-C does."""
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=200) == 130, self.output

    @property
    def output(self) -> str:
        return self.output_file.read_text(encoding="utf-8")

    @property
    def found(self) -> RunFolder | None:
        """The run folder; None before it is there."""
        path = self.folder / "results" / "animals" / "latest"
        return RunFolder.read(path) if (path / "run.json").is_file() else None

    def trials(self) -> list[TrialRecord]:
        return self.found.trials() if self.found else []

    def epochs(self) -> int:
        """How many epochs of all trials are written."""
        return sum(len(record.history) for record in self.trials())

    def best(self) -> float:
        """The best value that has a checkpoint; 0 before the first."""
        found = self.found.path.glob("trials/*/best/epoch-*/meta.json") if self.found else []
        return max((json.loads(p.read_text())["metrics"]["miou"] for p in found), default=0.0)

    def newest_checkpoint(self, number: int) -> int:
        """The last epoch of a trial that it would resume after, or has ended with."""
        folder = self.found.trial_folder(number) if self.found else self.folder
        if (folder / "end.json").is_file():
            return sys.maxsize
        names = (path.name for path in folder.glob("last/epoch-*"))
        return max((int(name[6:10]) for name in names), default=0)

    def times(self) -> dict[int, dict[int, float]]:
        """When each epoch was written: {trial: {epoch: time}}."""
        return {r.number: {m["epoch"]: m["time"] for m in r.history} for r in self.trials()}


class Checkpointed(threading.Thread):
    """Notes every epoch that a checkpoint holds: none of them may ever be trained again."""

    def __init__(self, search: Search) -> None:
        super().__init__(daemon=True)
        self.search, self.ended = search, threading.Event()
        self.times: dict[tuple[int, int], float] = {}
        self.again: set[tuple[int, int]] = set()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            self.look()

    def look(self) -> None:
        for record in self.search.trials():
            newest = self.search.newest_checkpoint(record.number)
            for metrics in record.history:
                place = record.number, metrics["epoch"]
                if self.times.get(place, metrics["time"]) != metrics["time"]:
                    self.again.add(place)
                if metrics["epoch"] <= newest:
                    self.times[place] = metrics["time"]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self.join()


def assert_whole(search: Search, trials: int = 4, epochs: int = EPOCHS) -> None:
    """No trial is lost and none is there twice, and each has trained all its epochs."""
    records = search.trials()
    told = {record.number: (record.state, record.reason) for record in records}
    assert len(records) == trials, (told, search.output)
    assert {record.state for record in records} == {"completed"}, told
    assert {len(record.history) for record in records} == {epochs}, told
    assert_counted_once(search)


def assert_counted_once(search: Search) -> None:
    """No trial and no epoch is missing or there twice, in files, in Optuna and in MLflow."""
    assert search.found is not None
    records = search.trials()
    assert [record.number for record in records] == list(range(len(records)))
    for record in records:
        assert [m["epoch"] for m in record.history] == list(range(1, len(record.history) + 1))
        path = search.found.trial_folder(record.number) / "metrics.jsonl"
        lines = path.read_text().splitlines() if record.history else []
        assert len(lines) == len(record.history)
    assert_recorded(search, {record.number: len(record.history) for record in records})


def assert_recorded(search: Search, epochs: Mapping[int, int]) -> None:
    """Optuna and MLflow know the same trials, and MLflow each of their epochs once."""
    assert search.found is not None
    assert _journal(search.found.journal) == len(epochs)
    client = MlflowClient(f"sqlite:///{search.folder}/results/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    trials = [run for run in runs if run.data.tags["raysearch.role"] == "trial"]
    assert len(runs) - len(trials) == 1
    steps = [client.get_metric_history(run.info.run_id, "miou") for run in trials]
    told = sorted([metric.step for metric in history] for history in steps)
    assert told == sorted(list(range(1, count + 1)) for count in epochs.values())


def _journal(path: Path) -> int:
    storage = JournalStorage(JournalFileBackend(str(path)))
    (study,) = storage.get_all_studies()
    return len(storage.get_all_trials(study._study_id))


def all_train(search: Search, seconds: float) -> float:
    """Wait until every running trial has trained an epoch; return the seconds that it took."""
    began = time.time()

    def trained() -> bool:
        running = [record for record in search.trials() if record.state == "running"]
        return bool(running) and all(r.history and r.history[-1]["time"] > began for r in running)

    return wait_for(trained, seconds, search.output)


def repeated(before: Mapping[int, Mapping[int, float]], search: Search) -> dict[int, int]:
    """How many epochs of each trial were trained a second time since `before`, a `times()`."""
    now = search.times()
    return {n: sum(now[n].get(e) != t for e, t in epochs.items()) for n, epochs in before.items()}


def wait_for(condition: Callable[[], Any], seconds: float, told: str) -> float:
    """Poll until a condition holds; return the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"after {seconds:.0f} s: {told}"
        time.sleep(0.05)
    return time.monotonic() - began


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process's descendants."""
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def ray_processes(root: psutil.Process, *titles: str) -> list[psutil.Process]:
    """The descendants whose title is one of Ray's, such as `ray::TrainController`."""
    return [p for p in family(root) if title(p).startswith(titles)]


def title(process: psutil.Process) -> str:
    try:
        return str((process.cmdline() or [""])[0])
    except psutil.Error:
        return ""


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL a driver; its Ray dies with it, the agents of Ray's dashboard a while later."""
    relatives = [p for p in family(psutil.Process(process.pid)) if not title(p).endswith("Agent")]
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(lives, relatives)), 60, "Ray's processes outlive their driver")
