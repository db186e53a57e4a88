"""The report in a browser: headless Chromium, without a network, and nothing to complain of."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from raysearch.records.report.page import write_report
from raysearch.records.run_folder import RunFolder
from tests.records.fakes import add_predictions, add_trial, new_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
# No name resolves and no address answers: whatever the page asked for would be an error.
OFFLINE = ["--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9"]
BAD = re.compile(r"CONSOLE|net::ERR|Uncaught|Failed to load")

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)"
)


def browse(page: Path, folder: Path, *what: str) -> tuple[str, str]:
    """Return what the browser printed, and what it and the page's console complained of."""
    assert BROWSER is not None
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    logged = ["--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}"]
    command = [BROWSER, *QUIET, *OFFLINE, *root, *logged, *what, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run: RunFolder = new_run(folder / "results")
    add_trial(run, 0, 0.4)
    add_trial(run, 1, 0.6, architecture="resnet")
    add_predictions(run, 1)
    np.save(run.trial_folder(1) / "confusion.npy", np.eye(3, dtype=np.int64))
    return write_report(run)


def test_the_report_opens_without_a_network_and_without_an_error(
    page: Path, tmp_path: Path
) -> None:
    shown, complaints = browse(page, tmp_path, "--dump-dom")
    assert "miou on validation images" in shown
    assert not BAD.search(complaints), complaints


def test_every_picture_is_shown(page: Path, tmp_path: Path) -> None:
    """A script beside a copy of the page asks the browser what it made of each picture."""
    script = (
        "<script>addEventListener('load', () => document.body.dataset.widths ="
        " [...document.images].map(i => i.naturalWidth).join());</script>"
    )
    asking = tmp_path / "asking.html"
    asking.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    shown, complaints = browse(asking, tmp_path, "--dump-dom")
    found = re.search(r'data-widths="([\d,]+)"', shown)
    assert found, complaints
    widths = [int(width) for width in found[1].split(",")]
    assert len(widths) == page.read_text().count("<img") >= 5
    assert min(widths) > 20


def test_an_error_would_be_seen(page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    loose = '<script>nothing.here();</script><img src="http://example.com/a.png">'
    broken.write_text(page.read_text().replace("</body>", f"{loose}</body>"))
    _, complaints = browse(broken, tmp_path, "--dump-dom")
    assert BAD.search(complaints), complaints
