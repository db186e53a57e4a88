"""Versions, GPUs and limits of one machine, and whether all nodes have the same."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import raysearch
from raysearch.diagnosis.result import Result, gigabytes
from raysearch.limits import NEEDED, WANTED

VERSIONS = ("Python", "Ray", "torch", "CUDA", "raysearch")
NONE = "none"
GPU_FIELDS = ("name", "driver_version", "compute_cap", "memory.total", "memory.free")
FREE_SHARE = 0.9  # A driver itself holds a few per cent of a GPU's memory.
PCI, NVIDIA = Path("/sys/bus/pci/devices"), "0x10de"  # Linux' list of devices, and a maker's id.
DRIVER = "`nvidia-smi` there says why; install NVIDIA's driver again, or restart the machine"
SETUP = "`ray up` with your cluster file installs the environment of requirements.lock there again"


def machine() -> dict[str, Any]:
    """Describe the machine that this runs on, as values of JSON.

    Returns:
        A text for each of VERSIONS; gpus: a mapping of GPU_FIELDS for each, memory in bytes;
        driver: why NVIDIA's driver does not answer, empty where it does or need not; usable: how
        many GPUs torch can use; hidden: whether CUDA_VISIBLE_DEVICES chooses among them;
        architectures: those that torch has kernels for; open_files: soft and hard limit.
    """
    import torch

    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus, driver = query_gpus()
    return {
        "Python": platform.python_version(),
        "Ray": _version("ray"),
        "torch": str(torch.__version__),
        "CUDA": torch.version.cuda or "none (CPU build)",
        "raysearch": f"{raysearch.__version__} ({source_digest()})",
        "gpus": gpus,
        "driver": driver,
        "usable": usable,
        "hidden": "CUDA_VISIBLE_DEVICES" in os.environ,
        "architectures": torch.cuda.get_arch_list(),
        "open_files": open_files(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return NONE


def source_digest(folder: Path = Path(raysearch.__file__).parent) -> str:
    """Return eight digits that stand for the package's own code, which copies of it share."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def query_gpus(devices: Path = PCI) -> tuple[list[dict[str, Any]], str]:
    """Ask NVIDIA's driver for its GPUs.

    A driver without any card cannot answer either, as on a head that shares the workers' image.

    Returns:
        The GPUs, none where there is no driver; and why it does not answer, though it should.
    """
    if shutil.which("nvidia-smi") is None:
        return [], ""
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        code = getattr(error, "returncode", type(error).__name__)
        return [], f"nvidia-smi fails ({code})" if _has_card(devices) else ""
    return read_gpus(told), ""


def _has_card(devices: Path) -> bool:
    """Whether a machine has a card of NVIDIA's, or does not tell what it has."""
    makers = [path.read_text().strip() for path in devices.glob("*/vendor")]
    return NVIDIA in makers or not makers


def read_gpus(told: str) -> list[dict[str, Any]]:
    """Read nvidia-smi's lines of GPU_FIELDS, memory in MiB ("[N/A]" on a divided GPU)."""
    found = []
    for line in told.strip().splitlines():
        one: dict[str, Any] = dict(zip(GPU_FIELDS, line.split(", "), strict=True))
        for key in ("memory.total", "memory.free"):
            one[key] = int(one[key]) * 2**20 if one[key].isdigit() else None
        found.append(one)
    return found


def open_files() -> list[int]:
    """Return how many files a process may have open: now, and after raising its limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return [WANTED, WANTED]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [WANTED if one == resource.RLIM_INFINITY else one for one in limits]


def judge_versions(answers: Mapping[str, Any], own: Mapping[str, Any]) -> list[Result]:
    """Compare each node's versions with this process's own."""
    return [
        Result(name, node, told[name])
        if told[name] == own[name]
        else Result(name, node, f"{told[name]}, here {own[name]}", "failed", SETUP)
        for name in VERSIONS
        for node, told in answers.items()
    ]


def judge_gpus(node: str, told: Mapping[str, Any], promised: float = 0) -> list[Result]:
    """Judge a machine's GPUs and their driver.

    Args:
        promised: the GPUs that Ray gives to trials there.
    """
    gpus = told["gpus"]
    if told["driver"]:
        return [Result("GPUs", node, told["driver"], "failed", DRIVER)]
    if len(gpus) < promised and told["usable"] < promised:
        text = f"{max(len(gpus), told['usable'])}, and Ray counts {promised:g}"
        repair = "name the GPUs that the machine has in `resources` of its type, or in --num-gpus"
        return [Result("GPUs", node, text, "failed", repair)]
    if not gpus:
        text = f"{told['usable']} (no nvidia-smi)" if told["usable"] else "none: trains on the CPU"
        return [Result("GPUs", node, text)]
    drivers = ", ".join(sorted({gpu["driver_version"] for gpu in gpus}))
    return [Result("driver", node, drivers), _judge_use(node, told), _judge_memory(node, gpus)]


def _judge_use(node: str, told: Mapping[str, Any]) -> Result:
    """Whether torch can compute on the GPUs that the driver knows."""
    from raysearch.training.device import has_kernels

    gpus, architectures = told["gpus"], told["architectures"]
    names = " + ".join(_counted([gpu["name"] for gpu in gpus]))
    if told["usable"] < len(gpus) and not told["hidden"]:
        text = f"{names}: torch can use {told['usable']} of {len(gpus)}"
        repair = (
            f"install an NVIDIA driver for CUDA {told['CUDA']}, or a torch built for the driver "
            "there (https://pytorch.org/get-started); `nvidia-smi` names both versions"
        )
        return Result("GPUs", node, text, "failed", repair)
    for gpu in gpus:
        major, _, minor = gpu["compute_cap"].partition(".")
        if minor and not has_kernels((int(major), int(minor)), architectures):
            text = f"{gpu['name']}: torch has no kernels for {gpu['compute_cap']}"
            repair = "install a torch build for it, see https://pytorch.org/get-started"
            return Result("GPUs", node, text, "failed", repair)
    return Result("GPUs", node, names)


def _counted(names: Sequence[str]) -> list[str]:
    return [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]


def _judge_memory(node: str, gpus: Sequence[Mapping[str, Any]]) -> Result:
    known = [g for g in gpus if g["memory.free"] is not None and g["memory.total"]]
    if not known:
        return Result("GPU memory", node, "not told by the driver")
    tightest = min(known, key=lambda gpu: gpu["memory.free"] / gpu["memory.total"])
    free, total = tightest["memory.free"], tightest["memory.total"]
    text = f"{gigabytes(free)} of {gigabytes(total)} free"
    if free >= FREE_SHARE * total:
        return Result("GPU memory", node, text)
    repair = "`nvidia-smi` there names the processes that hold the rest; end those not needed"
    return Result("GPU memory", node, text, "warning", repair)


def judge_open_files(node: str, told: Mapping[str, Any]) -> Result:
    """Judge how many files a process may open there; a search raises what it may."""
    soft, hard = told["open_files"]
    if hard >= NEEDED:
        return Result("open files", node, f"{soft}, may be raised to {hard}")
    repair = (
        f"`* hard nofile {WANTED}` in /etc/security/limits.conf, or `--ulimit nofile={WANTED}` "
        "for a container"
    )
    return Result("open files", node, f"{hard} at most, {NEEDED} needed", "failed", repair)
