"""The Dockerfile, by its text: what it copies, whom it runs as, and what it installs by."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]


class TestDockerfile:
    LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()

    def test_copies_what_is_there_and_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
        assert ignored[1] == "*"
        copied = [line.split()[1:-1] for line in self.LINES if line.startswith("COPY ")]
        sources = {name for names in copied for name in names if not name.startswith("--")}
        assert sources
        for name in sources:
            assert (ROOT / name).exists(), name
            assert any(fnmatch(name.split("/")[0], pattern) for pattern in let_in), name

    def test_nothing_is_let_in_that_is_not_copied(self) -> None:
        text = " ".join(line for line in self.LINES if line.startswith("COPY "))
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        assert all(line[1:] in text.split() for line in ignored if line.startswith("!"))

    def test_ends_as_a_user_without_rights(self) -> None:
        users = [line.split()[1] for line in self.LINES if line.startswith("USER ")]
        assert users == ["1000:1000"]  # By number: Kubernetes cannot see who a name is.
        begun = next(i for i, line in enumerate(self.LINES) if line.startswith("USER "))
        as_root = [line for line in self.LINES[:begun] if line.startswith(("RUN ", "COPY "))]
        assert all("apt-get" in line or "useradd" in line for line in as_root)

    def test_installs_by_the_lock_alone(self) -> None:
        runs = [line for line in self.LINES if line.startswith("RUN ")]
        assert sum("make --no-print-directory env" in line for line in runs) == 1
        assert not any(re.search(r"\bpip install\b", line) for line in runs)

    def test_is_of_a_python_that_the_project_takes(self) -> None:
        (base,) = [line.split()[1] for line in self.LINES if line.startswith("FROM ")]
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
        assert base.startswith(f"python:{wanted.removeprefix('>=')}-slim")

    def test_bash_finds_the_environment(self) -> None:
        (named,) = [line for line in self.LINES if line.startswith("ENV BASH_ENV=")]
        assert named.endswith("/raysearch/cluster/environment.sh")
