"""The cluster files: every key known, the token everywhere, nothing open; as Ray reads them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.dashboard.modules.job import job_supervisor
from ray.dashboard.modules.job.job_supervisor import JobSupervisor

from raysearch.cluster import SETTINGS
from raysearch.cluster.files import check_cluster_file, read_documents
from raysearch.errors import ConfigError

ROOT = Path(__file__).parents[1]
RAY_UP = ["cluster.yaml", "cluster/on_premises.yaml"]
KUBERAY = ["cluster/kuberay.yaml", "cluster/kuberay_volume.yaml"]
FILES = [*RAY_UP, *KUBERAY]
SCRIPTS = sorted((ROOT / "cluster").glob("*.sh"))
TOKEN = "~/.ray/auth_token"
ENVIRONMENT = ". ~/raysearch/cluster/environment.sh"
# What a user names freely: paths on the nodes, resources of Ray and labels of Kubernetes.
FREE = ("file_mounts", "nodeSelector", "resources")


def ray_up(name: str) -> dict[str, Any]:
    (config,) = read_documents(ROOT / name)
    return config


def rayjob() -> dict[str, Any]:
    """The cluster of the RayJob."""
    (document,) = read_documents(ROOT / "cluster/kuberay.yaml")
    spec: dict[str, Any] = document["spec"]
    return spec


def commands(config: dict[str, Any]) -> list[str]:
    return [line for key in config if key.endswith("_commands") for line in config[key] or ()]


def keys(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every key that Ray, EC2 or Kubernetes names."""
    items = enumerate(value) if isinstance(value, list) else ()
    items = value.items() if isinstance(value, dict) else items
    for key, inner in items:
        here = (*place, key)
        if isinstance(key, str) and not (place and place[-1] in FREE):
            yield here
        yield from keys(inner, here)


def every_key() -> Iterator[Any]:
    for name in FILES:
        documents = list(yaml.safe_load_all((ROOT / name).read_text(encoding="utf-8")))
        for place in keys(documents):
            if place[-2:-1] != ("available_node_types",):
                yield pytest.param(name, place, id=f"{name}:{'.'.join(map(str, place[1:]))}")


@pytest.mark.parametrize("name", FILES)
def test_is_valid(name: str) -> None:
    check_cluster_file(ROOT / name)


@pytest.mark.parametrize(("name", "place"), list(every_key()))
def test_every_key_is_refused_when_it_is_misspelt(
    name: str, place: tuple[Any, ...], tmp_path: Path
) -> None:
    documents: Any = list(yaml.safe_load_all((ROOT / name).read_text(encoding="utf-8")))
    documents = yaml.safe_load(yaml.safe_dump(documents))  # Anchors are shared no longer.
    inner = documents
    for part in place[:-1]:
        inner = inner[part]
    wrong = f"{place[-1]}x"
    inner[wrong] = inner.pop(place[-1])
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_cluster_file(path)
    assert str(path) in str(caught.value)
    if place[1:] not in [("apiVersion",), ("kind",)]:
        assert f"'{wrong}'" in str(caught.value)


def test_the_error_names_place_and_nearest_key(tmp_path: Path) -> None:
    config = ray_up("cluster.yaml")
    node = config["available_node_types"]["gpu_spot"]["node_config"]
    node["InstanceMarketOptions"] = {"MarketTyp": "spot"}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    where = r"available_node_types.gpu_spot.node_config.InstanceMarketOptions"
    with pytest.raises(ConfigError, match=rf"{where}: unknown key 'MarketTyp'. .*'MarketType'"):
        check_cluster_file(tmp_path / "cluster.yaml")


@pytest.mark.parametrize("resource", ["gpu", "GPUs", "Cpu"])
def test_a_misspelt_resource_is_refused(resource: str, tmp_path: Path) -> None:
    config = ray_up("cluster.yaml")
    config["available_node_types"]["gpu_spot"]["resources"] = {resource: 4}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"unknown key '{resource}'"):
        check_cluster_file(tmp_path / "cluster.yaml")


ABSENT = object()
GPU = "available_node_types.gpu_spot.node_config"
WORKER = "RayJob.spec.rayClusterSpec.workerGroupSpecs[0]"


def broken(name: str, place: str, value: Any, folder: Path) -> str:
    """What is said of one of our files in which one value is another, or absent."""
    documents = yaml.safe_load(yaml.safe_dump(read_documents(ROOT / name)))
    inner: Any = documents[0]
    *parts, last = re.findall(r"[^.\[\]]+", place)
    for part in parts:
        inner = inner[int(part) if part.isdigit() else part]
    inner.pop(last, None)
    if value is not ABSENT:
        inner[last] = value
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_cluster_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("provider.region", ABSENT, "provider: 'region' is missing; name one such as us-west-2"),
        ("provider.region", "", "provider: 'region' is missing"),
        ("available_node_types", ABSENT, "'available_node_types' is missing"),
        (f"{GPU}.ImageId", ABSENT, f"{GPU}: 'ImageId' is missing; cluster.yaml shows"),
        (f"{GPU}.ImageId", "", f"{GPU}: 'ImageId' is missing"),
        (f"{GPU}.ImageId", 5, f"{GPU}.ImageId: 5 must be str"),
        (f"{GPU}.InstanceType", ABSENT, f"{GPU}: 'InstanceType' is missing"),
        (f"{GPU}.InstanceMarketOptions.MarketType", "spto",
         f"{GPU}.InstanceMarketOptions.MarketType: unknown value 'spto'. Did you mean 'spot'?"),
        (f"{GPU}.IamInstanceProfile.Name", "", f"{GPU}.IamInstanceProfile.Name: is empty; fill"),
        (f"{GPU}.InstanceInitiatedShutdownBehavior", "end",
         f"{GPU}.InstanceInitiatedShutdownBehavior: unknown value 'end'. Valid: stop, terminate"),
        (f"{GPU}.BlockDeviceMappings", {}, f"{GPU}.BlockDeviceMappings: {{}} must be list or"),
        (f"{GPU}.BlockDeviceMappings", [{"Ebs": {"VolumeType": "gp9"}}],
         f"{GPU}.BlockDeviceMappings[0].Ebs.VolumeType: unknown value 'gp9'"),
    ],
)  # fmt: skip
def test_what_ec2_would_refuse_is_refused(
    place: str, value: Any, told: str, tmp_path: Path
) -> None:
    assert told in broken("cluster.yaml", place, value, tmp_path)


def test_new_types_of_machines_are_let_through(tmp_path: Path) -> None:
    config = ray_up("cluster.yaml")
    config["available_node_types"]["gpu_spot"]["node_config"]["InstanceType"] = "g99.metal"
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    check_cluster_file(tmp_path / "cluster.yaml")


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("apiVersion", "ray.io/v2", "apiVersion: 'ray.io/v2' must be 'ray.io/v1'"),
        ("apiVersion", ABSENT, "apiVersion: None must be 'ray.io/v1'"),
        ("spec", "x", "RayJob.spec: 'x' must be keys and values. Valid: active"),
        ("spec.entrypoint", "", "RayJob.spec: 'entrypoint' is missing; cluster/kuberay.yaml shows"),
        ("spec.ttlSecondsAfterFinished", "soon",
         "RayJob.spec.ttlSecondsAfterFinished: 'soon' must be a whole number"),
        ("spec.shutdownAfterJobFinishes", "yes, please",
         "RayJob.spec.shutdownAfterJobFinishes: 'yes, please' must be true or false"),
        ("spec.rayClusterSpec", ABSENT, "RayJob.spec: 'rayClusterSpec' is missing"),
        ("spec.rayClusterSpec.headGroupSpec", ABSENT,
         "RayJob.spec.rayClusterSpec: 'headGroupSpec' is missing"),
        ("spec.rayClusterSpec.authOptions", ABSENT,
         "RayJob.spec.rayClusterSpec: 'authOptions' is missing"),
        ("spec.rayClusterSpec.authOptions", {},
         "RayJob.spec.rayClusterSpec.authOptions: 'mode' is missing"),
        ("spec.rayClusterSpec.authOptions.mode", "tokne",
         "RayJob.spec.rayClusterSpec.authOptions.mode: 'tokne' must be 'token', or anyone may"),
        ("spec.rayClusterSpec.authOptions.mode", "disabled", "'disabled' must be 'token'"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams", {"num-cpu": "0"},
         "RayJob.spec.rayClusterSpec.headGroupSpec.rayStartParams: unknown key 'num-cpu'. Did you "
         "mean 'num-cpus'?"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams", {"num-cpus": 0},
         'rayStartParams.num-cpus: 0 must be a text: "0"'),
        ("spec.rayClusterSpec.workerGroupSpecs[0].maxReplicas", "4",
         f"{WORKER}.maxReplicas: '4' must be a whole number"),
        ("spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers", [],
         f"{WORKER}.template.spec: 'containers' is missing"),
        ("spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0].image", ABSENT,
         f"{WORKER}.template.spec.containers[0]: 'image' is missing"),
        ("spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0].resources.limits",
         {"nvidia.com/gpus": 1},
         f"{WORKER}.template.spec.containers[0].resources.limits: unknown key 'nvidia.com/gpus'. "
         "Did you mean 'nvidia.com/gpu'?"),
        ("spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0].resources.limits",
         {"memory": "16GB"}, "resources.limits.memory: '16GB' must be an amount such as 2"),
    ],
)  # fmt: skip
def test_what_kuberay_would_refuse_or_run_unguarded_is_refused(
    place: str, value: Any, told: str, tmp_path: Path
) -> None:
    assert told in broken("cluster/kuberay.yaml", place, value, tmp_path)


POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: raysearch}
spec:
  podSelector: {matchLabels: {ray.io/is-ray-node: "yes"}}
  policyTypes: [Ingress]
  ingress:
    - from: [{podSelector: {matchLabels: {ray.io/is-ray-node: "yes"}}}]
      ports: [{port: 1, endPort: 65535}]
"""


def test_a_network_policy_is_known(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    check_cluster_file(path)
    path.write_text(POLICY.replace("ingress:", "ingres:"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"spec: unknown key 'ingres'\. .*'ingress'"):
        check_cluster_file(path)


def test_a_divided_gpu_is_a_known_resource(tmp_path: Path) -> None:
    path = tmp_path / "kuberay.yaml"
    text = (ROOT / "cluster/kuberay.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("nvidia.com/gpu: ", "nvidia.com/mig-1g.5gb: "), encoding="utf-8")
    check_cluster_file(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cluster_name: [", "cannot be read"),
        ("", "is no cluster file"),
        ("- a", "is no cluster file"),
        (
            "cluster_name: a\nprovider: {type: local, head_ip: h}\nmax_workers: x",
            "max_workers: 'x'",
        ),
        ("cluster_name: a\nprovider: aws", "provider: 'aws'"),
        ("apiVersion: v1\nkind: [Pod]", "kind: ['Pod'] is not known here."),
        ("apiVersion: v1\nkind: Deployment", "kind: Deployment is not known here. Valid: Net"),
    ],
)
def test_other_mistakes_are_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(told)):
        check_cluster_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read"):
        check_cluster_file(tmp_path / "absent.yaml")


class TestRayUp:
    @pytest.mark.parametrize("name", RAY_UP)
    def test_shell_lines_and_scripts_are_read_by_bash(self, name: str) -> None:
        for line in commands(ray_up(name)):
            subprocess.run(["bash", "-n", "-c", line], check=True)

    @pytest.mark.parametrize("name", RAY_UP)
    def test_files_that_nodes_receive_exist(self, name: str) -> None:
        mounts = ray_up(name)["file_mounts"]
        local = [path for path in mounts.values() if not path.startswith("~")]
        assert [path for path in local if not (ROOT / path).exists()] == []
        assert mounts[TOKEN] == TOKEN
        sent = {path.removeprefix("~/raysearch/") for path in mounts if path != TOKEN}
        assert sent == set(local)

    @pytest.mark.parametrize("name", RAY_UP)
    def test_scripts_that_are_called_are_shipped(self, name: str) -> None:
        called = re.findall(r"~/raysearch/(cluster/\w+\.sh)", " ".join(commands(ray_up(name))))
        assert {"cluster/setup.sh", "cluster/environment.sh", "cluster/tracking.sh"} <= set(called)
        assert [path for path in called if not (ROOT / path).is_file()] == []

    @pytest.mark.parametrize("name", RAY_UP)
    def test_every_start_has_the_environment_and_the_dashboard_is_on_loopback(
        self, name: str
    ) -> None:
        config = ray_up(name)
        head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
        assert all(line.startswith(ENVIRONMENT) for line in [*head, *worker])
        assert "--dashboard-host=127.0.0.1" in head[-1].split()
        assert "--address=$RAY_HEAD_IP:6379" in worker[-1]

    def test_variants_share_their_commands(self) -> None:
        aws, own = map(ray_up, RAY_UP)
        assert aws["file_mounts"] == own["file_mounts"]
        assert aws["setup_commands"][0] == own["setup_commands"][0]
        assert aws["head_start_ray_commands"][0] == own["head_start_ray_commands"][0]
        assert aws["worker_start_ray_commands"][0] == own["worker_start_ray_commands"][0]

    def test_head_runs_drivers_only_and_gpus_start_from_zero(self) -> None:
        types = ray_up("cluster.yaml")["available_node_types"]
        head, spot, on_demand = types["head"], types["gpu_spot"], types["gpu_on_demand"]
        assert head["resources"] == {"CPU": 0, "GPU": 0}
        assert head["max_workers"] == 0
        assert spot["min_workers"] == on_demand["min_workers"] == 0
        assert spot["resources"] == on_demand["resources"]
        assert spot["resources"]["GPU"] > 0

    def test_the_lock_brings_the_client_that_launches_machines(self) -> None:
        assert re.search(r"^boto3==", (ROOT / "requirements.lock").read_text(), re.M)

    def test_spot_and_on_demand_are_the_same_machines(self) -> None:
        types = ray_up("cluster.yaml")["available_node_types"]
        spot, on_demand = (types[name]["node_config"] for name in ("gpu_spot", "gpu_on_demand"))
        assert spot == {**on_demand, "InstanceMarketOptions": {"MarketType": "spot"}}

    def test_a_machine_that_shuts_itself_down_costs_nothing_more(self) -> None:
        types = ray_up("cluster.yaml")["available_node_types"]
        for name in ("gpu_spot", "gpu_on_demand"):
            assert types[name]["node_config"]["InstanceInitiatedShutdownBehavior"] == "terminate"

    def test_the_head_has_a_role_of_its_own(self) -> None:
        types = ray_up("cluster.yaml")["available_node_types"]
        head, worker = (types[n]["node_config"]["IamInstanceProfile"] for n in ("head", "gpu_spot"))
        assert head != worker  # Without one, Ray makes a role that may do all in EC2 and S3.


class TestKubeRay:
    def test_the_token_is_demanded(self) -> None:
        assert rayjob()["rayClusterSpec"]["authOptions"] == {"mode": "token"}

    def test_gpus_start_from_zero_and_go_when_the_job_ends(self) -> None:
        job = rayjob()
        (gpu,) = job["rayClusterSpec"]["workerGroupSpecs"]
        assert job["shutdownAfterJobFinishes"] is True
        assert job["rayClusterSpec"]["enableInTreeAutoscaling"] is True
        assert (gpu["replicas"], gpu["minReplicas"]) == (0, 0)
        assert gpu["maxReplicas"] > 0

    def test_no_container_runs_as_root_and_each_has_limits(self) -> None:
        for pod in self.pods():
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] == 1000
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                assert {"cpu", "memory"} <= set(container["resources"]["limits"])

    def test_volumes_that_are_mounted_are_there(self) -> None:
        claim, _ = read_documents(ROOT / "cluster/kuberay_volume.yaml")
        for pod in self.pods():
            volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
            for container in pod["containers"]:
                names = {mount["name"] for mount in container.get("volumeMounts", ())}
                assert names <= set(volumes)
            if "shared" in volumes:
                named = volumes["shared"]["persistentVolumeClaim"]["claimName"]
                assert named == claim["metadata"]["name"]

    def test_ray_is_the_version_of_the_lock(self) -> None:
        lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
        assert re.findall(r"^ray==(\S+)", lock, re.M) == [rayjob()["rayClusterSpec"]["rayVersion"]]

    @staticmethod
    def pods() -> list[dict[str, Any]]:
        job = rayjob()
        cluster = job["rayClusterSpec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        templates = [job["submitterPodTemplate"], *(group["template"] for group in groups)]
        copy = read_documents(ROOT / "cluster/kuberay_volume.yaml")[1]
        return [copy["spec"], *(template["spec"] for template in templates)]

    def test_a_search_reads_what_was_copied_to_the_volume(self) -> None:
        assert "--data /shared/images --output /shared/results" in rayjob()["entrypoint"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_read_by_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def environment(tmp_path: Path, *before: str) -> dict[str, str]:
    """What a command sees that bash starts with cluster/environment.sh."""
    given = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    given["BASH_ENV"] = str(ROOT / "cluster/environment.sh")
    given |= dict(one.split("=", 1) for one in before)
    told = subprocess.run(
        ["bash", "-c", "env"], env=given, check=True, capture_output=True, text=True
    )
    return dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)


def test_nodes_and_drivers_agree_on_their_settings(tmp_path: Path) -> None:
    found = environment(tmp_path)
    both = set(found) & set(SETTINGS)
    assert {key: found[key] for key in both} == {key: SETTINGS[key] for key in both}
    assert {key for key in SETTINGS if key.startswith(("RAY_TRAIN", "RAY_ACCEL"))} <= both
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"
    assert found["PATH"].startswith(f"{tmp_path}/raysearch/.venv/bin:")


def test_a_job_that_is_stopped_has_time_to_end_in_order(tmp_path: Path) -> None:
    name = "RAY_JOB_STOP_WAIT_TIME_S"
    assert name in Path(job_supervisor.__file__).read_text(encoding="utf-8")
    assert int(environment(tmp_path)[name]) > JobSupervisor.DEFAULT_RAY_JOB_STOP_WAIT_TIME_S


def test_an_interface_that_was_chosen_stays(tmp_path: Path) -> None:
    found = environment(tmp_path, "GLOO_SOCKET_IFNAME=ib0")
    assert found["GLOO_SOCKET_IFNAME"] == found["NCCL_SOCKET_IFNAME"] == "ib0"
