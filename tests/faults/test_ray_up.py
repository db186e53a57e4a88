"""`ray up` of cluster/on_premises.yaml on two hosts, one of which is lost and comes back."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import StatusCode
from mlflow import MlflowClient

from raysearch.cluster.authentication import knock
from tests.faults.hosts import Host, hosts, missing, search_path
from tests.faults.searches import Search, wait_for

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venv"
EPOCHS = 10
ALIVE = """
import ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("ALIVE", sum(node["Alive"] for node in ray.nodes()))
"""
RESOURCES = {"workers_per_trial": 2, "cpus_per_worker": 1}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("ray up"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


class Client:
    """Somebody's own machine: a copy of the project, a home with a token, and Ray's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "project", folder / "client"
        self.home.mkdir()
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))},
            "HOME": str(self.home),
            "PATH": f"{VENV / 'bin'}:{search_path()}",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(folder / "state"),
        }

    def write(self, two: list[Host]) -> None:
        """Copy what nodes receive, and fill in what cluster/on_premises.yaml leaves to its user."""
        config = yaml.safe_load((ROOT / "cluster/on_premises.yaml").read_text(encoding="utf-8"))
        for name in (path for path in config["file_mounts"].values() if not path.startswith("~")):
            self._copy(name)
        head, worker = two
        config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(head.folder / "key")}
        for kind in ("head", "worker"):
            config[f"{kind}_start_ray_commands"][-1] += " --num-cpus=1"
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def _copy(self, name: str) -> None:
        to = self.folder / name
        to.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to)
            os.utime(to, (0, 0))  # The hosts see this environment, so `make env` finds it made.

    def __call__(self, *command: str, code: int = 0, seconds: float = 120) -> str:
        """Run a command in the project's folder; print and return what it says."""
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, text=True, timeout=seconds,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        took = time.monotonic() - began
        print(f"\n$ {' '.join(command)}\n{done.stdout}({done.returncode}, {took:.0f} s)")
        assert done.returncode == code, done.stdout
        return done.stdout

    def on_head(self, command: str, **kwargs: Any) -> str:
        return self("ray", "exec", "cluster.yaml", command, **kwargs)

    def nodes(self) -> int:
        """How many nodes of the cluster live."""
        told = self.on_head(f"python -c '{ALIVE}'")
        return int(told.rpartition("ALIVE ")[2].split()[0])


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Host]]:
    with hosts(tmp_path, ROOT, 2) as made:
        yield made


@pytest.fixture
def client(tmp_path: Path, two: list[Host]) -> Client:
    made = Client(tmp_path)
    made.write(two)
    return made


def submit(client: Client, search: Search) -> None:
    """Submit a search as a job, with the cluster's own `python` and no address."""
    tune = f"python -m raysearch.tune {search.folder}/animals.yaml --no-ensemble"
    tune += f" --output {search.folder}/results"
    client.on_head(f"ray job submit --no-wait --submission-id search -- {tune}")


def job_state(client: Client) -> str:
    """How the search stands: "succeeded", "failed", "was stopped", or "" while it runs."""
    told = client.on_head("ray job status search").partition("Job 'search' ")[2]
    return next((end for end in ("succeeded", "failed", "was stopped") if told.startswith(end)), "")


def test_a_host_is_killed_and_comes_back(
    two: list[Host], client: Client, tmp_path: Path, repetitions: Callable[[int, str], None]
) -> None:
    client("bash", "-c", "umask 077; ray get-auth-token --generate > /dev/null")
    client("python", "-m", "raysearch.doctor", "cluster.yaml")
    client("ray", "up", "--yes", "cluster.yaml")
    wait_for(lambda: client.nodes() == 2, 180, "the second host has not joined")
    client.on_head("python -m raysearch.doctor")
    assert_guarded(two)

    (tmp_path / "search").mkdir()
    budget: Mapping[str, Any] = {"trials": 2, "epochs": EPOCHS, "first_rung": 1.0}
    search = Search(tmp_path / "search", resources=RESOURCES, budget=budget)
    submit(client, search)
    wait_for(lambda: search.epochs() >= 3, 240, "no trial trains")
    two[1].kill()
    before = search.epochs()
    wait_for(lambda: client.nodes() == 1, 120, "the loss is not noticed")
    two[1].start()
    back = wait_for(lambda: search.epochs() > before, 240, "training does not go on")
    wait_for(lambda: job_state(client), 300, "the search does not end")
    print(client.on_head("ray job logs search"))
    assert job_state(client) == "succeeded"
    assert_complete(search, two[0])

    client("ray", "down", "--yes", "cluster.yaml")
    left = wait_for(lambda: not any(map(ray_processes, two)), 180, "Ray is left on a host")
    repetitions(1, f"trained on {back:.0f} s after its start; all of Ray gone {left:.0f} s later")


def assert_guarded(two: list[Host]) -> None:
    """The token is the owner's alone; dashboard and tracking answer on loopback only."""
    for host in two:
        assert host.ssh("stat -c %a ~/.ray/auth_token").stdout.strip() == "600"
    opened = two[0].ssh("ss -ltnH | awk '{print $4}'").stdout.split()
    for port in ("8265", "5000"):
        assert [name for name in opened if name.endswith(f":{port}")] == [f"127.0.0.1:{port}"]
    assert knock(f"{two[0].address}:6379") is StatusCode.UNAUTHENTICATED


def assert_complete(search: Search, head: Host) -> None:
    """Every epoch of every trial is there once, in the run and on the tracking server."""
    epochs = list(range(1, EPOCHS + 1))
    told = [[m["epoch"] for m in record.history] for record in search.trials()]
    assert told == [epochs, epochs]
    tracking = MlflowClient(f"sqlite:///{head.home}/tracking/mlflow.db")
    runs = tracking.search_runs([e.experiment_id for e in tracking.search_experiments()])
    trials = [run for run in runs if run.data.tags["raysearch.role"] == "trial"]
    steps = [[m.step for m in tracking.get_metric_history(r.info.run_id, "miou")] for r in trials]
    assert sorted(map(sorted, steps)) == [epochs, epochs]


def ray_processes(host: Host) -> list[str]:
    return host.ssh("pgrep -a 'raylet|gcs_server'", check=False).stdout.splitlines()
