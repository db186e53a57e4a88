"""What `ray up` would stumble over, seen on the machine that it is typed on."""

import importlib.util
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysearch.cluster.files import check_cluster_file, read_documents
from raysearch.diagnosis.result import HERE, Result
from raysearch.errors import ConfigError

TO_CHANGE = "CHANGE"  # What our own cluster files leave to be filled in.
SSH_PORT, SSH_SECONDS = 22, 5.0


def check_file(path: Path) -> list[Result]:
    """Check a cluster file, and on this machine what it names.

    Raises:
        ConfigError: it cannot be read.
    """
    documents = read_documents(path)
    results = [_schema(path), *leftovers(documents)]
    config = documents[0]
    if not started_from_here(path):
        return results
    provider = config.get("provider") or {}
    results += [ssh_key(config.get("auth") or {}), mounts(config.get("file_mounts") or {})]
    if provider.get("type") == "aws":
        results.append(aws_credentials())
    hosts = [provider.get("head_ip"), *(provider.get("worker_ips") or [])]
    return [*results, *(ssh_host(host) for host in hosts if host and TO_CHANGE not in host)]


def started_from_here(path: Path) -> bool:
    """Whether `ray up` starts the cluster, with what is on this machine; else Kubernetes does.

    Raises:
        ConfigError: the cluster file cannot be read.
    """
    return "provider" in read_documents(path)[0]


def _schema(path: Path) -> Result:
    try:
        check_cluster_file(path)
    except ConfigError as error:
        told = str(error).removeprefix(f"{path}: ")
        return Result("cluster file", str(path), told, "failed", "correct what it names")
    return Result("cluster file", str(path), "valid")


def leftovers(documents: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Name the values that still wait to be filled in."""
    texts = [found for document in documents for found in _texts(document)]
    left = [f"{key}: {value}" for key, value in texts if TO_CHANGE in value]
    if not left:
        return [Result("values to change", HERE, "all filled in")]
    repair = "fill it in; the comments of the cluster file say with what"
    return [Result("values to change", HERE, one, "failed", repair) for one in left]


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts in nested values, each with its dotted key."""
    if isinstance(value, str):
        yield key, value
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, one in value.items() if isinstance(value, Mapping) else ():
        yield from _texts(one, f"{key}.{name}".lstrip("."))


def ssh_key(auth: Mapping[str, Any]) -> Result:
    """Look at the key that nodes are reached by."""
    named = auth.get("ssh_private_key")
    if not named:
        return Result("ssh key", HERE, "none is named; Ray makes one, or asks the ssh agent")
    path = Path(named).expanduser()
    if not path.is_file():
        repair = f"`ssh-keygen -t ed25519 -f {named}`, and let the nodes know the public half"
        return Result("ssh key", HERE, f"{named}: missing", "failed", repair)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        text = f"{named}: mode {mode:04o}, which ssh refuses"
        return Result("ssh key", HERE, text, "failed", f"chmod 600 {named}")
    return Result("ssh key", HERE, f"{named}: mode {mode:04o}")


def mounts(file_mounts: Mapping[str, str]) -> Result:
    """Look whether what is copied to the nodes is there."""
    missing = [one for one in file_mounts.values() if not Path(one).expanduser().exists()]
    if not missing:
        return Result("file mounts", HERE, f"all {len(file_mounts)} are there")
    repair = "run from the folder that they are relative to, and create what is still missing"
    return Result("file mounts", HERE, f"missing: {', '.join(missing)}", "failed", repair)


def aws_credentials() -> Result:
    """Look whether Ray would find AWS' client and credentials; they are neither used nor shown."""
    if importlib.util.find_spec("boto3") is None:
        repair = "`.venv/bin/uv pip install boto3` gives Ray its AWS client"
        return Result("credentials", HERE, "boto3 is not installed", "failed", repair)
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        found = boto3.Session().get_credentials()
    except BotoCoreError as error:
        text = f"AWS: {next(iter(str(error).splitlines()), 'unusable')}"
        return Result("credentials", HERE, text, "failed", "correct ~/.aws, or AWS_PROFILE")
    if found is None:
        repair = "`aws configure`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
        return Result("credentials", HERE, "AWS: none found", "failed", repair)
    return Result("credentials", HERE, f"AWS: found ({found.method})")


def ssh_host(host: str, port: int = SSH_PORT) -> Result:
    """Look whether a host's SSH server answers."""
    try:
        with socket.create_connection((host, port), SSH_SECONDS):
            return Result("ssh", host, f"port {port} answers")
    except OSError as error:
        text = f"port {port}: {error.strerror or error}"
        repair = "switch the host on, start its sshd, or correct provider.head_ip and worker_ips"
        return Result("ssh", host, text, "failed", repair)
