"""The MLflow UI as `make ui` opens it: a search, its trials, and two of them compared."""

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from raysearch.records.leaderboard import write_leaderboard, write_summary
from raysearch.records.mlflow_tree import ARTIFACTS, DATABASE, connect
from raysearch.records.registry import bundle_of, publish
from raysearch.records.run_folder import RunFolder
from raysearch.records.tracking import fill
from raysearch.study import load_study
from tests.commands.test_serving import MLFLOW, free_port, wait_for
from tests.records.ensembles import with_ensemble
from tests.records.fakes import add_predictions

PATIENCE = 60.0


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = with_ensemble(tmp_path_factory.mktemp("ui"))
    study = load_study(str(run.study_file))
    for number in (0, 1):
        add_predictions(run, number)
    write_leaderboard(run, study)
    write_summary(run, study, seconds=9, busy_share=0.9)
    assert "champion" in fill(run, f"sqlite:///{run.output / DATABASE}")
    return run


@pytest.fixture(scope="module")
def server(search: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("log") / "server.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///results/{DATABASE}",
                "--artifacts-destination", f"results/{ARTIFACTS}",
            ],
            cwd=search.output.parent,
            stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _changing() -> tuple[type[Exception], ...]:
    """What Selenium raises of a page that is being drawn anew."""
    from selenium.common.exceptions import WebDriverException

    return (WebDriverException,)


class Page:
    """What a user sees of a page, and what they click there."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    @property
    def text(self) -> str:
        return str(self.browser.find_element("tag name", "body").text)

    def shows(self, *texts: str) -> None:
        """Wait until the page shows all of these."""
        from selenium.webdriver.support.ui import WebDriverWait

        def there(_: Any) -> bool:
            return all(text in self.text for text in texts)

        WebDriverWait(self.browser, PATIENCE, 0.3, _changing()).until(there, f"not all of {texts}")

    def click(self, how: str, what: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        def clicked(browser: Any) -> bool:
            browser.find_element(how, what).click()
            return True

        WebDriverWait(self.browser, PATIENCE, 0.3, _changing()).until(clicked)

    def select(self, run: str) -> None:
        """Tick a row of the table of runs; its box and its name stand in two halves of it."""
        row = self.browser.find_element("xpath", f"//*[@role='row'][contains(., '{run}')]")
        number = row.get_attribute("row-id")
        self.click("css selector", f"[row-id='{number}'] input.ag-checkbox-input")


def test_a_search_is_found_and_two_trials_are_compared(
    search: RunFolder, server: str, browser: Any
) -> None:
    page = Page(browser)
    browser.get(f"{server}/#/experiments")
    page.shows("Experiments", "tiny")
    study = browser.find_element("link text", "tiny").get_attribute("href")
    browser.get(f"{study.partition('?')[0]}/runs")
    page.shows(search.name, "4 matching runs")
    assert "0000 narrow" not in page.text
    page.click("css selector", "[role=row] button[data-component-id*=runnamecell]")
    page.shows("ensemble", "0000 narrow", "0001 narrow")
    for run in ("0000 narrow", "0001 narrow"):
        page.select(run)
    page.click("xpath", "//button[normalize-space()='Compare']")
    page.shows("Comparing 2 Runs from 1 Experiment", "0000 narrow", "0001 narrow")
    assert re.search(r"learning_rate( \S+){2}", page.text)
    assert re.search(r"best_miou\D*0\.5\D+0\.25", page.text)


def test_the_champion_is_seen_with_its_figures(
    search: RunFolder, server: str, browser: Any
) -> None:
    page = Page(browser)
    browser.get(f"{server}/#/models/tiny")
    page.shows("Version 1", "champion", "test_value", search.name)


def test_a_server_keeps_models_as_a_database_does(
    search: RunFolder, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client = connect(server)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    client.rename_experiment(experiment, "made in the database")
    client.rename_registered_model("tiny", "database")
    assert publish(search).startswith("registered as tiny version 1, the champion")
    bundle = bundle_of("models:/tiny@champion", search.output)
    assert bundle == bundle_of("models:/tiny/1", search.output)
    assert (search.output / ".models") in bundle.parents
    assert sorted(path.name for path in bundle.iterdir()) == [
        "ensemble.json", "members", "study.yaml",
    ]  # fmt: skip
