from pathlib import Path

import pytest

from raysearch.data import Data, open_data
from tests.data.voc_miniature import config, write_odd, write_plain


@pytest.fixture(scope="session")
def odd_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_odd(tmp_path_factory.mktemp("odd") / "voc")


@pytest.fixture(scope="session")
def plain_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("plain") / "voc")


@pytest.fixture(scope="session")
def plain_data(plain_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(config(), plain_root, tmp_path_factory.mktemp("cache"), seed=0)


@pytest.fixture
def plain_copy(tmp_path: Path) -> Path:
    """A healthy set that a test may damage."""
    return write_plain(tmp_path / "voc")
