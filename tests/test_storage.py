"""Storage as a folder and as an object store: the same promises for both."""

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.cache import Cache, open_cache
from raysearch.data.formats.voc import Format
from raysearch.data.shared_cache import fetch, share
from raysearch.errors import ConfigError, DataError
from raysearch.search.opening import cache_here
from raysearch.storage import Storage
from tests.data.voc_miniature import config, write_plain
from tests.stores import BUCKET, object_store


@pytest.fixture(scope="module")
def store_uri() -> Iterator[str]:
    with object_store() as store:
        yield store.uri()


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, store_uri: str, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage.of(str(tmp_path / "storage"))
    return Storage.of(store_uri) / tmp_path.name


class TestStorage:
    def test_what_is_written_is_read(self, storage: Storage) -> None:
        (storage / "a").write("b/c.txt", b"text")
        assert storage.files() == {"a/b/c.txt": 4}
        assert (storage / "a/b").read("c.txt") == b"text"
        assert storage.has("a/b/c.txt")
        assert not storage.has("a/b")

    def test_files_go_there_and_back(self, storage: Storage, tmp_path: Path) -> None:
        source, back = tmp_path / "source", tmp_path / "new" / "back"
        source.write_bytes(b"0123456789")
        storage.upload(source, "whole")
        storage.upload(source, "beginning", size=4)
        storage.download("whole", back)
        assert back.read_bytes() == b"0123456789"
        assert storage.read("beginning") == b"0123"
        assert [path.name for path in back.parent.iterdir()] == ["back"]

    def test_files_and_folders_are_deleted(self, storage: Storage) -> None:
        for name in ("a/1", "a/2", "b"):
            storage.write(name, b"")
        storage.delete("a")
        storage.delete("b")
        storage.delete("never")
        assert storage.files() == {}

    def test_it_is_checked_without_a_trace(self, storage: Storage) -> None:
        storage.check()
        assert storage.files() == {}

    def test_what_is_missing_is_an_os_error(self, storage: Storage, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="missing"):
            storage.download("missing", tmp_path / "missing")
        assert not (tmp_path / "missing").exists()

    def test_it_is_pickled_and_typed_again(self, storage: Storage) -> None:
        place = storage / "study/run"
        assert pickle.loads(pickle.dumps(place)) == place
        assert Storage.of(str(place), levels=2).folder == "study/run"
        assert str(Storage.of(str(place), levels=2)) == str(place)


class TestRefusals:
    def test_no_such_bucket(self, store_uri: str) -> None:
        uri = store_uri.replace(f"//{BUCKET}/", "//no-such/")
        with pytest.raises(ConfigError, match=r"no-such/.*cannot be used.*check that the bucket"):
            Storage.of(uri).check()

    def test_nobody_answers(self) -> None:
        uri = "s3://runs/x?endpoint_override=http://127.0.0.1:9&region=us-east-1"
        with pytest.raises(ConfigError, match="cannot be used"):
            Storage.of(uri).check()

    def test_google_is_reached_in_the_same_way(self) -> None:
        where = "endpoint_override=127.0.0.1:9&scheme=http&retry_limit_seconds=1"
        with pytest.raises(ConfigError, match=r"anonymous@runs.*cannot be used"):
            Storage.of(f"gs://anonymous@runs/x?{where}").check()

    def test_an_unknown_kind_of_storage(self) -> None:
        with pytest.raises(ConfigError, match=r"floppy://disk.*cannot be used"):
            Storage.of("floppy://disk/runs").check()

    @pytest.mark.parametrize(
        "uri",
        [
            "s3://AKIAUSER:hush-hush@runs/x?region=us-east-1",
            "s3://AKIAUSER:hush/hush@runs/x?region=us-east-1",
            "s3://runs/x?secret_key=hush-hush",
        ],
    )
    def test_credentials_belong_elsewhere_and_are_not_repeated(self, uri: str) -> None:
        with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as refused:
            Storage.of(uri).check()
        assert "hush" not in str(refused.value)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("decoded")
    reader = Format(write_plain(folder / "voc"), config())
    return open_cache(reader, reader.samples(), folder / "cache")


KILLED = """
import os, signal, sys
from pathlib import Path
from raysearch.data.shared_cache import fetch
from raysearch.storage import Storage

class Killed(Storage):
    def __truediv__(self, name):
        return Killed(self.uri, name)

    def download(self, name, path):
        super().download(name, path)
        if len(list(path.parent.iterdir())) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

fetch(Killed(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
"""


class Broken(Storage):
    """Storage that goes away between the look into it and the copy."""

    def __truediv__(self, name: str) -> "Broken":
        return Broken(self.uri, name)

    def download(self, name: str, path: Path) -> None:
        raise ConnectionError("nobody answers")


class TestSharedCache:
    def test_a_node_without_data_opens_the_same_cache(
        self, cache: Cache, storage: Storage, tmp_path: Path
    ) -> None:
        share(cache, storage)
        found = fetch(storage, cache.digest, tmp_path / "node")
        assert found is not None
        assert (found.digest, found.names) == (cache.digest, cache.names)
        assert np.array_equal(found.image(3), cache.image(3))
        assert np.array_equal(found.mask(3), cache.mask(3))

    def test_there_is_none_before_it_is_whole(
        self, cache: Cache, storage: Storage, tmp_path: Path
    ) -> None:
        place = storage / cache.digest[:16]
        place.upload(cache.path / "images.npy", "images.npy")
        assert fetch(storage, cache.digest, tmp_path / "node") is None
        share(cache, storage)
        assert fetch(storage, cache.digest, tmp_path / "node") is not None

    def test_images_of_another_search_are_refused(
        self, cache: Cache, storage: Storage, tmp_path: Path
    ) -> None:
        share(cache, storage)
        other = cache.digest[:16] + "f" * (len(cache.digest) - 16)
        with pytest.raises(DataError, match="holds the images of another search"):
            fetch(storage, other, tmp_path / "node")
        assert not (tmp_path / "node" / cache.digest[:16]).exists()

    def test_a_copy_that_was_killed_leaves_nothing_false(
        self, cache: Cache, tmp_path: Path
    ) -> None:
        storage, node = Storage.of(str(tmp_path / "storage")), tmp_path / "node"
        share(cache, storage)
        arguments = [storage.uri, cache.digest, str(node)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        assert list(node.glob(".*.copied/*")), "killed before it began"
        assert not (node / cache.digest[:16]).exists()
        found = fetch(storage, cache.digest, node)
        assert found is not None
        assert np.array_equal(found.image(0), cache.image(0))

    def test_a_network_error_says_nothing_of_the_data(self, cache: Cache, tmp_path: Path) -> None:
        share(cache, Storage.of(str(tmp_path / "storage")))
        with pytest.raises(OSError, match=r"cannot be copied.*nobody answers"):
            fetch(Broken(str(tmp_path / "storage")), cache.digest, tmp_path / "node")

    def test_a_node_without_data_says_so(self, cache: Cache, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere"):
            cache_here(config(), tmp_path / "nowhere", tmp_path / "node", cache.digest)
        shared = Storage.of(str(tmp_path / "shared"))
        share(cache, shared)
        place = (config(), tmp_path / "nowhere", tmp_path / "node", cache.digest, shared)
        assert cache_here(*place).digest == cache.digest
