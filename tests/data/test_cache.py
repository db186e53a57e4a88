"""The cache is built once, holds what the reader gives, and is never half there."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from raysearch.data.cache import Cache, data_digest, open_cache
from raysearch.data.formats.class_folders import Format as ClassFolders
from raysearch.data.formats.voc import Format
from raysearch.data.samples import Sample
from raysearch.errors import DataError
from tests.data.food101_miniature import folders_config, write_class_folders
from tests.data.voc_miniature import config, write_plain

KILLED = """
import os, signal, sys
from pathlib import Path
from raysearch.data.cache import open_cache
from raysearch.data.formats.voc import Format
from tests.data.voc_miniature import config

class Killed(Format):
    def target(self, sample):
        if sample.name == "007":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().target(sample)

reader = Killed(Path(sys.argv[1]), config())
open_cache(reader, reader.samples(), Path(sys.argv[2]))
"""


class Counting(Format):
    """A reader that counts what it decodes."""

    decoded = 0

    def image(self, sample: Sample) -> np.ndarray:
        type(self).decoded += 1
        return super().image(sample)


def build(root: Path, folder: Path, **values: object) -> Cache:
    reader = Format(root, config(**values))
    return open_cache(reader, reader.samples(), folder)


def test_holds_what_the_reader_gives(odd_root: Path, tmp_path: Path) -> None:
    reader = Format(odd_root, config())
    samples = reader.samples()
    cache = open_cache(reader, samples, tmp_path)
    assert cache.names == tuple(sample.name for sample in samples)
    assert (cache.bands, cache.ignore_index, len(cache)) == (3, 255, 16)
    for sample in samples:
        index = cache.index(sample.name)
        mask = reader.target(sample)
        assert cache.shape(index) == mask.shape
        np.testing.assert_array_equal(cache.image(index), reader.image(sample))
        np.testing.assert_array_equal(cache.mask(index), mask)
        assert cache.class_pixels[index].tolist() == [(mask == k).sum() for k in range(3)]


def test_views_are_read_only_maps(plain_root: Path, tmp_path: Path) -> None:
    cache = build(plain_root, tmp_path)
    image = cache.image(0)
    assert not image.flags.writeable
    assert not image.flags.owndata
    mapped = {Path(part.path).name for part in psutil.Process().memory_maps()}
    assert "images.npy" in mapped


def test_pickles_by_its_path(plain_root: Path, tmp_path: Path) -> None:
    cache = build(plain_root, tmp_path)
    cache.image(0), cache.mask(0)
    stream = pickle.dumps(cache)
    assert len(stream) < 500
    np.testing.assert_array_equal(pickle.loads(stream).image(3), cache.image(3))


def test_duplicates_have_one_digest(odd_root: Path, tmp_path: Path) -> None:
    digests = build(odd_root, tmp_path).file_digests
    assert digests["dog/001"] == digests["dog/007"] != digests["dog/002"]


def test_second_opening_decodes_nothing(plain_root: Path, tmp_path: Path) -> None:
    reader = Counting(plain_root, config())
    Counting.decoded = 0
    one = open_cache(reader, reader.samples(), tmp_path)
    two = open_cache(reader, reader.samples(), tmp_path)
    assert (one, Counting.decoded) == (two, 12)


def test_two_builders_build_once(plain_root: Path, tmp_path: Path) -> None:
    reader = Counting(plain_root, config())
    Counting.decoded = 0
    found: list[Cache] = []
    builders = [
        threading.Thread(
            target=lambda: found.append(open_cache(reader, reader.samples(), tmp_path))
        )
        for _ in range(4)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert Counting.decoded == 12


def test_killed_builder_leaves_nothing_false(plain_root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(plain_root), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir()] == [".partial"]
    cache = build(plain_root, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [cache.path]
    assert len(cache) == 12


def test_classified_images_count_one_for_their_class(tmp_path: Path) -> None:
    """What grows with images times classes is not written out."""
    reader = ClassFolders(write_class_folders(tmp_path / "set"), folders_config())
    cache = open_cache(reader, reader.samples(), tmp_path / "cache")
    assert cache.class_pixels.tolist() == np.eye(3, dtype=int).repeat(6, axis=0).tolist()
    assert not (cache.path / "class_pixels.npy").exists()
    assert "class_pixels" not in (cache.path / "index.json").read_text(encoding="utf-8")


def test_moments_of_what_is_stored(plain_root: Path, tmp_path: Path) -> None:
    cache = build(plain_root, tmp_path)
    pixels = cache.image(4).reshape(-1, 3)
    wanted = [np.full(3, len(pixels)), pixels.mean(axis=0), pixels.var(axis=0)]
    np.testing.assert_allclose(cache.moments[4], wanted, rtol=1e-6)
    assert cache.moments.shape == (12, 3, 3)


@pytest.mark.parametrize("name", ["masks", "class_pixels", "moments"])
def test_cache_that_lost_a_file_is_built_again(plain_root: Path, tmp_path: Path, name: str) -> None:
    before = build(plain_root, tmp_path)
    (before.path / f"{name}.npy").unlink()
    after = build(plain_root, tmp_path)
    assert after == before
    assert (after.path / f"{name}.npy").is_file()
    assert after.mask(0).any()


def test_digest_is_known_before_the_build(plain_root: Path, tmp_path: Path) -> None:
    reader = Format(plain_root, config())
    digest = data_digest(reader, reader.samples())
    assert digest == build(plain_root, tmp_path).digest


def test_digest_follows_the_bytes_and_the_reader(tmp_path: Path) -> None:
    root = write_plain(tmp_path / "voc")
    reader = Format(root, config())
    first = data_digest(reader, reader.samples())
    other = Format(root, config(ignore_index=200))
    assert data_digest(other, other.samples()) != first
    mask = root / "SegmentationClass" / "000.png"
    mask.write_bytes((root / "SegmentationClass" / "003.png").read_bytes() + b" ")
    assert data_digest(reader, reader.samples()) != first


def test_moved_files_have_the_same_digest(plain_root: Path, tmp_path: Path) -> None:
    moved = write_plain(tmp_path / "elsewhere")
    readers = [Format(root, config()) for root in (plain_root, moved)]
    assert len({data_digest(reader, reader.samples()) for reader in readers}) == 1


def test_full_disk(plain_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"the cache needs 0 MB, but 0 MB are free"):
        build(plain_root, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
