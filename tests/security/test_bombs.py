"""Pictures that claim to be huge are refused before memory is taken, on every way in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.security.bombs import BOMBS, plain

MOST_MB = 400
# In a process of its own, which is measured, and never gets more than its limit.
CHILD = """
import json, resource, sys
from pathlib import Path
from raysearch.config import DataConfig, Task
from raysearch.data import images, mask_values, rasters
from raysearch.errors import DataError
from raysearch.inference.files import NewImage, read_picture
from raysearch.data.formats import reader

LIMIT = 100_000_000
data = DataConfig(format="pairs", classes=("a", "b"), bands=3)
task = Task("segmentation", 3, ("a", "b"), 255)
new = data.model_copy(update={"max_pixels": 2_000_000_000})
ways = {
    "images.read": lambda path: images.read(path, 3, LIMIT),
    "images.read_mask": lambda path: images.read_mask(path, LIMIT),
    "images.shape": lambda path: images.shape(path, LIMIT),
    "rasters.read": lambda path: rasters.read(path, max_pixels=LIMIT),
    "mask_values.read_mask": lambda path: mask_values.read_mask(path, LIMIT),
    "pairs": lambda path: reader("pairs").picture(path, data),
    "predict": lambda path: read_picture(NewImage(path, "x"), new, task).pixels[:1],
}
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
for way in ways.values():
    way(Path(sys.argv[1]) / "plain.png")
told = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    for name, way in ways.items():
        before = most()
        try:
            said = f"read {getattr(way(path), 'shape', '')}"
        except DataError as error:
            said = f"refused: {error}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        told[f"{path.name} {name}"] = (said, most() - before)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """What each way in says of each bomb, and the MB by which its process grew."""
    folder = tmp_path_factory.mktemp("bombs")
    plain(folder / "plain.png")
    for name, write in BOMBS.items():
        write(folder / name)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return {key: (said, grown) for key, (said, grown) in answer.items()}


WAYS = (
    "images.read", "images.read_mask", "images.shape", "rasters.read", "mask_values.read_mask",
    "pairs", "predict",
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(
    told: dict[str, tuple[str, float]], name: str, way: str
) -> None:
    said, grown = told[f"{name} {way}"]
    assert grown < MOST_MB, said
    assert said.startswith("refused: "), said
    assert name in said


@pytest.mark.parametrize("way", WAYS)
def test_a_plain_picture_is_read(told: dict[str, tuple[str, float]], way: str) -> None:
    assert told[f"plain.png {way}"][0].startswith("read")


def test_check_names_a_bomb_among_the_images(tmp_path: Path) -> None:
    from raysearch.config import DataConfig
    from raysearch.data.cache import open_cache
    from raysearch.data.formats import reader
    from raysearch.errors import DataError
    from tests.data.pairs_miniature import CLASSES, write_plain

    write_plain(tmp_path / "set")
    picture = sorted((tmp_path / "set" / "images").rglob("*.*"))[0]
    BOMBS["huge.png"](picture)
    data = DataConfig(format="pairs", classes=CLASSES)
    source = reader("pairs")(tmp_path / "set", data)
    with pytest.raises(DataError, match=r"more than data\.max_pixels"):
        open_cache(source, source.samples(), tmp_path / "cache")
