"""The report in a browser: it asks for nothing, complains of nothing, and shows every picture."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.records.report.page import write_report
from tests.records.fakes import add_predictions, add_trial, new_run

# What the page has loaded or tried to load; pictures that are part of it are data.
FETCHED = """
return performance.getEntriesByType('resource').map(entry => entry.name)
    .filter(name => !name.startsWith('data:'))"""
WIDTHS = "return [...document.images].map(image => image.complete ? image.naturalWidth : 0)"
BROKEN = '<script>nothing.here()</script><img src="http://localhost:9/missing.png">'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the pictures that a network could be asked for."""
    run = new_run(tmp_path_factory.mktemp("report") / "results")
    add_trial(run, 0, 0.4)
    add_trial(run, 1, 0.6, architecture="resnet")
    add_predictions(run, 1)
    np.save(run.trial_folder(1) / "confusion.npy", np.eye(3, dtype=np.int64))
    folder = run.path / "label_suspects"
    folder.mkdir()
    Image.new("RGB", (64, 16), "teal").save(folder / "001.jpg")
    row = {"image": "a.jpg", "label": "lion", "said": "cheetah", "pixels": 70, "confidence": 0.8,
           "agreement": 1.0, "picture": "label_suspects/001.jpg"}  # fmt: skip
    told = {"images": 9, "trials": ["0", "1"], "unknown": [], "suspects": [row]}
    (run.path / "label_suspects.json").write_text(json.dumps(told))
    return write_report(run)


@pytest.fixture
def quiet(browser: Any) -> Iterator[Any]:
    """The browser, with what its console was told before forgotten."""
    browser.get_log("browser")
    yield browser
    browser.get("about:blank")


def test_the_report_asks_for_nothing_and_complains_of_nothing(quiet: Any, page: Path) -> None:
    quiet.get(page.as_uri())
    assert quiet.get_log("browser") == []
    assert quiet.execute_script(FETCHED) == []
    assert "miou on validation images" in quiet.find_element("css selector", ".card.main").text
    heads = {one.text for one in quiet.find_elements("tag name", "h2")}
    assert {
        "Trials", "How they learned", "Classes", "Predictions of the best trial",
        "Labels to look at again", "Data", "Environment and repetition",
    } <= heads  # fmt: skip
    for link in quiet.find_elements("css selector", "nav a"):
        place = link.get_attribute("href").partition("#")[2]
        assert quiet.find_elements("id", place), place


def test_every_picture_is_shown_and_the_page_fits(quiet: Any, page: Path) -> None:
    quiet.get(page.as_uri())
    widths = quiet.execute_script(WIDTHS)
    assert len(widths) == page.read_text().count("<img") >= 6
    assert min(widths) > 20
    root = "document.documentElement"
    assert quiet.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth")


def test_an_error_and_a_request_would_be_seen(quiet: Any, page: Path) -> None:
    broken = page.with_name("broken.html")
    broken.write_text(page.read_text().replace("</body>", f"{BROKEN}</body>"))
    quiet.get(broken.as_uri())
    told, until = "", time.monotonic() + 20
    while "nothing is not defined" not in told:  # The console is told a moment after.
        assert time.monotonic() < until, told
        told += " ".join(entry["message"] for entry in quiet.get_log("browser"))
    assert "missing.png" in " ".join([told, *quiet.execute_script(FETCHED)])
    assert 0 in quiet.execute_script(WIDTHS)
