"""Every fault really happens. `make test-faults` runs all rows and writes docs/reliability.md.

A test names its row with `@pytest.mark.fault("driver killed")`, and tells what it did with the
fixture `repetitions`: `repetitions(10, "at most 1 epoch repeated")`.
"""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.table import ROWS, Told, table

BEGIN, END = "<!-- made by `make test-faults` -->\n", "<!-- end -->\n"
COLLECTED = pytest.StashKey["Collected"]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COLLECTED] = Collected()
    config.pluginmanager.register(config.stash[COLLECTED])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and _row(item) is None:
            raise pytest.UsageError(f"{item.nodeid}: names no row of tests/faults/table.py")


def _row(item: pytest.Item) -> str | None:
    """The row of a test; its marker's argument, or None where it has none."""
    marker = item.get_closest_marker("fault")
    if marker is None or marker.args[0] not in ROWS:
        return None
    return str(marker.args[0])


@pytest.fixture
def repetitions(request: pytest.FixtureRequest) -> Callable[[int, str], None]:
    """Tell how often the fault happened, and what came out: `repetitions(count, words)`."""

    def told(count: int, words: str = "") -> None:
        print(f"\n{_row(request.node)}: {count} repetitions. {words}")
        request.node.user_properties.append(("told", [count, words]))

    return told


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    report = yield
    report.user_properties.append(("row", _row(item)))  # Reaches the process that writes the page.
    return report


class Collected:
    """What the tests told, gathered where the page is written: tests may run in other processes."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.states: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = dict(report.user_properties)
        row = found.get("row")
        if row is None or (report.when != "call" and report.passed):
            return
        said = report.outcome
        if report.skipped and isinstance(report.longrepr, tuple):
            said = f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
        self.states[f"{row}|{report.nodeid}"] = said
        for name, value in report.user_properties:
            if name == "told":
                self.told.append(Told(row, report.nodeid, *value))


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:  # type: ignore[no-untyped-def]
    told, states = config.stash[COLLECTED].told, config.stash[COLLECTED].states
    if not told:
        return
    terminalreporter.section("faults")
    for one in told:
        terminalreporter.write_line(f"{one.row}: {one.repetitions} x; {one.words}")
    page = config.getoption("--reliability")
    if page:
        write_page(Path(page), told, states)


def write_page(path: Path, told: list[Told], states: dict[str, str]) -> None:
    """Put a table in place of the last one, between its marks."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    last, _, after = rest.partition(END)
    where = f"{time.strftime('%Y-%m-%d')}, {platform.system()}, {os.cpu_count()} cores"
    text = table(told, states, where, last)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
