"""Hosts on this machine: each with its own network, processes, home, /tmp/ray and SSH server.

Files are shared, as on machines with one network file system. Needs root on Linux, and Debian's
openssh-server, rsync and iproute2.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.searches import wait_for

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare", "make")
NETWORK = "10.77.0"
BRIDGE = "raysearch0"
SSHD = """\
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
PidFile none
SetEnv PATH={path}
"""
# What is mounted over belongs to the host's mount namespace and goes with it.
BOOT = """\
set -e
mount --make-rprivate /
mount --bind {passwd} /etc/passwd
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs -o size=2g tmpfs /dev/shm
mkdir -p {home}/raysearch/.venv
mount --bind {venv} {home}/raysearch/.venv
mount -o remount,bind,ro {home}/raysearch/.venv
mount --rbind {home}/raysearch {project}
exec /usr/sbin/sshd -D -e -f {config}
"""


def missing() -> str:
    """Say what such hosts need and this machine lacks; "" where nothing is missing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for network namespaces"
    absent = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    return f"needs {', '.join(absent)}" if absent else ""


def search_path() -> str:
    """Return PATH with the folders of the system's own servers."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a short command of the system and return what it printed."""
    text = [str(part) for part in command]
    done = subprocess.run(text, capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(text)}: {done.stderr.strip()}")
    return done


@dataclass
class Host:
    """One host; it is off until it is started, and can be started again after a loss."""

    number: int
    folder: Path
    project: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def name(self) -> str:
        return f"raysearch{self.number}"

    @property
    def home(self) -> Path:
        return self.folder / f"home{self.number}"

    def plug_in(self) -> None:
        """Give the host a network card on the bridge."""
        outside, inside = f"{self.name}o", ("ip", "-n", self.name)
        run("ip", "netns", "add", self.name)
        run(
            "ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", self.name
        )
        run("ip", "link", "set", outside, "master", BRIDGE, "up")
        run(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "route", "add", "default", "via", f"{NETWORK}.254")

    def start(self) -> None:
        """Switch the host on, and wait until its SSH server answers."""
        self.home.mkdir(exist_ok=True)
        passwd = self.folder / f"passwd{self.number}"
        passwd.write_text(
            f"root:x:0:0:root:{self.home}:/bin/bash\nsshd:x:101:65534::/run/sshd:/bin/false\n"
        )
        boot = BOOT.format(
            passwd=passwd,
            home=self.home,
            venv=self.project / ".venv",
            project=self.project,
            config=self.folder / "sshd_config",
        )
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.folder / f"sshd{self.number}.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *own, "bash", "-c", boot],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, 30, f"no SSH server at {self.address}")

    def kill(self) -> None:
        """Switch the host off at once: every process of it is gone, and nothing is said."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None

    def _answers(self) -> bool:
        return self.ssh("true", check=False).returncode == 0

    def ssh(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the host as a user would, by SSH."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        options += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"]
        key = self.folder / "key"
        return run("ssh", *options, "-i", key, f"root@{self.address}", command, check=check)

    def remove(self) -> None:
        self.kill()
        run("ip", "netns", "del", self.name, check=False)
        run("ip", "link", "del", f"{self.name}o", check=False)  # The kernel may take its time.


@contextmanager
def hosts(folder: Path, project: Path, count: int) -> Iterator[list[Host]]:
    """Run this many hosts on a bridge of their own; whatever happens, nothing of them is left.

    Args:
        project: what it holds, its hosts see as ~/raysearch: empty, but for its .venv, which is
            unwritable. So an editable install is that of the host's own copy.
    """
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "sshd_config").write_text(SSHD.format(folder=folder, path=search_path()))
    made = [Host(number, folder, project) for number in range(1, count + 1)]
    try:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for host in made:
            host.plug_in()
            host.start()
        yield made
    finally:
        for host in made:
            host.remove()
        run("ip", "link", "del", BRIDGE, check=False)
