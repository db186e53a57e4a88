"""Many processes want one cache, and builders are killed: it is built once, and never false."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysearch.data.cache import data_digest
from raysearch.data.digests import digest
from raysearch.data.formats.voc import Format
from tests.data.voc_miniature import config, write_plain

Told = Callable[[int, str], None]
IMAGES = 60

# Round by round, forks builders that open one cache at the same moment, and kills the one that
# builds at a random moment where asked to. Prints how many images were decoded in each round, and
# what each builder found.
BUILDERS = """
import json, os, random, signal, sys, time
from pathlib import Path
from raysearch.data.cache import open_cache
from raysearch.data.digests import digest
from raysearch.data.formats.voc import Format
from tests.data.voc_miniature import config

root, place, rounds, kill = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
random = random.Random(7)

class Counting(Format):
    def image(self, sample):
        os.write(decoded, b".")
        return super().image(sample)

def build(folder, told):
    reader = Counting(root, config())
    cache = open_cache(reader, reader.samples(), folder)
    images = b"".join(cache.image(i).tobytes() + cache.mask(i).tobytes() for i in range(len(cache)))
    os.write(told, (json.dumps([cache.digest, digest(images)]) + "\\n").encode())

def kill_builder(folder, children):
    while os.stat(decoded).st_size == 0:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    (lock,) = folder.glob("*.lock")
    held = f":{lock.stat().st_ino}"
    locks = [line.split() for line in open("/proc/locks")]
    holders = {int(fields[4]) for fields in locks if "->" not in fields and held in fields[5]}
    for pid in holders & set(children):
        os.kill(pid, signal.SIGKILL)

for number in range(rounds):
    folder = place / f"cache{number}"
    decoded = os.open(place / f"decoded{number}", os.O_CREAT | os.O_APPEND | os.O_RDWR)
    heard, told = os.pipe()
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            build(folder, told)
            os._exit(0)
        children.append(child)
    os.close(told)
    if kill == "kill":
        kill_builder(folder, children)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    found = [json.loads(line) for line in os.fdopen(heard)]
    told = {"codes": codes, "found": found, "decoded": os.stat(decoded).st_size}
    print(json.dumps(told | {"left": [p.suffix for p in folder.iterdir() if p.is_dir()]}))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("data") / "voc", IMAGES)


def built(root: Path, place: Path, rounds: int, kill: str = "") -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", BUILDERS, str(root), str(place), str(rounds), kill],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def true_digests(root: Path) -> list[str]:
    """Of the files, and of every pixel as the reader gives it."""
    reader = Format(root, config())
    samples = sorted(reader.samples(), key=lambda sample: sample.name)
    pixels = [reader.image(one).tobytes() + reader.target(one).tobytes() for one in samples]
    return [data_digest(reader, samples), digest(b"".join(pixels))]


@pytest.mark.fault("one cache")
def test_three_builders_at_once_build_it_once(
    root: Path, tmp_path: Path, repetitions: Told
) -> None:
    true, times = true_digests(root), 3
    for told in built(root, tmp_path, times):
        assert told["codes"] == [0, 0, 0]
        assert told["found"] == [true] * 3
        assert told["decoded"] == IMAGES
    repetitions(times, "three builders at once")


@pytest.mark.slow
@pytest.mark.fault("one cache")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/locks is Linux's")
def test_a_builder_that_is_killed_leaves_nothing_false(
    root: Path, tmp_path: Path, repetitions: Told
) -> None:
    true, times = true_digests(root), 30
    rounds = built(root, tmp_path, times, "kill")
    assert len(rounds) == times
    for told in rounds:
        survivors = told["codes"].count(0)
        assert survivors >= 2
        assert told["codes"].count(-9) == 3 - survivors
        assert len(told["found"]) >= survivors
        assert told["found"] == [true] * len(told["found"])
        assert told["left"] == [""]
    inside = sum(told["decoded"] > IMAGES for told in rounds)
    assert inside >= times // 3, "the kills missed what they are about"
    killed = sum(told["codes"].count(-9) for told in rounds)
    repetitions(killed, f"builders killed, {inside} in the middle; another built it")
