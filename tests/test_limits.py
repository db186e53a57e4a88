"""What the operating system allows, read from files as Linux writes them."""

from pathlib import Path

import pytest

from raysearch.limits import kills_in, memory_files


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        ("0::/kubepods/pod7\n", ["kubepods/pod7/memory.events", "memory.events"]),
        ("0::/\n", ["memory.events", "memory.events"]),
        (
            "9:cpu,cpuacct:/a\n4:memory:/docker/77\n",
            ["memory/docker/77/memory.oom_control", "memory/memory.oom_control"],
        ),
        ("12:cpuset:/\n", []),
    ],
)
def test_the_files_of_a_control_group(tmp_path: Path, groups: str, wanted: list[str]) -> None:
    (tmp_path / "cgroup").write_text(groups)
    found = memory_files(tmp_path / "cgroup", Path("/sys/fs/cgroup"))
    assert found == [Path("/sys/fs/cgroup") / name for name in wanted]
    assert memory_files(tmp_path / "missing") == []


@pytest.mark.parametrize(
    "text",
    [
        "low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 0\n",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        "pgfault 77\noom_kill 3\ndrop_pagecache 0\n",
    ],
)
def test_the_count_of_kills(tmp_path: Path, text: str) -> None:
    counted, other = tmp_path / "counted", tmp_path / "other"
    counted.write_text(text)
    other.write_text("oom_kill_disable 0\n")  # Of a kernel that does not count them.
    assert kills_in([tmp_path / "missing", other, counted]) == 3
    assert kills_in([other]) is None
