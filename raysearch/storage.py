"""A place that every node reaches: a folder, or an object store such as s3:// and gs://.

Object stores are reached through pyarrow's file systems, which Ray uses too. Credentials come from
the environment (for S3 `AWS_ACCESS_KEY_ID` or the machine's role), never from a URI: a URI is
written into records and seen by everyone who lists processes.
"""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from raysearch.errors import ConfigError, first_line
from raysearch.redaction import redacted

OBJECT_STORES = ("s3", "gcs")  # A file there is whole or absent, and folders need not be made.
CHUNK = 8 * 2**20

LOGIN = re.compile(r"://[^?]*:[^?]*@")
ANONYMOUS = "://anonymous@"  # No credentials, but the wish to use none.


@dataclass(frozen=True, repr=False)
class Storage:
    """A folder in storage; names are relative to it, with "/" between their parts.

    Every method raises OSError where storage cannot be reached or refuses.

    Attributes:
        uri: such as s3://bucket/prefix?region=eu-central-1, or an absolute path.
        folder: below it.
    """

    uri: str
    folder: str = ""

    @classmethod
    def of(cls, uri: str, levels: int = 0) -> Self:
        """Return storage at a URI, with its last `levels` names as the folder below it."""
        path, mark, query = uri.partition("?")
        if "://" not in path:
            path = str(Path(path).expanduser().absolute())
        parts = path.rstrip("/").split("/")
        end = len(parts) - levels
        return cls("/".join(parts[:end]) + mark + query, "/".join(parts[end:]))

    def __truediv__(self, name: str) -> "Storage":
        return Storage(self.uri, f"{self.folder}/{name}".strip("/"))

    def __str__(self) -> str:
        """The whole URI, as it can be typed."""
        path, mark, query = self.uri.partition("?")
        return "/".join([path, self.folder]).rstrip("/") + mark + query

    __repr__ = __str__

    def files(self) -> dict[str, int]:
        """Return all files below this folder: {name: size in bytes}.

        Raises:
            OSError: one has a name that would lead out of a folder that it is copied into.
        """
        found = {name: info.size for name, info in self._below(recursive=True) if info.is_file}
        if strange := next((name for name in found if not _leads_down(name)), None):
            raise OSError(f"{self}: holds a file of the name {strange!r}; delete it there")
        return found

    def folders(self) -> list[str]:
        """Return the names of the folders that stand directly in this one."""
        return [name for name, info in self._below(recursive=False) if not info.is_file]

    def _below(self, recursive: bool) -> Iterator[tuple[str, Any]]:
        from pyarrow.fs import FileSelector

        system, base = self._place()
        selector = FileSelector(base, allow_not_found=True, recursive=recursive)
        for info in system.get_file_info(selector):
            yield info.path[len(base) + 1 :], info

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        system, path = self._place(name)
        return bool(system.get_file_info(path).is_file)

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        system, path = self._place(name)
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())

    def write(self, name: str, data: bytes) -> None:
        """Write a small file in one step."""
        with self._written(name) as stream:
            stream.write(data)

    def upload(self, path: Path, name: str, size: int | None = None) -> None:
        """Copy a file of this machine here in one step, or its first `size` bytes."""
        with path.open("rb") as file, self._written(name) as stream:
            if size is None:
                shutil.copyfileobj(file, stream, CHUNK)
            else:
                stream.write(file.read(size))

    def download(self, name: str, path: Path) -> None:
        """Copy a file to this machine in one step."""
        system, place = self._place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with system.open_input_stream(place) as stream, aside.open("wb") as file:
                shutil.copyfileobj(stream, file, CHUNK)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Delete a file or a folder; one that is not there is no mistake."""
        from pyarrow.fs import FileType

        system, path = self._place(name)
        kind = system.get_file_info(path).type
        if kind == FileType.Directory:
            system.delete_dir(path)
        elif kind == FileType.File:
            system.delete_file(path)

    def check(self) -> None:
        """Write, read and delete a small file.

        Raises:
            ConfigError: one of these cannot be done, or the URI holds credentials.
        """
        bare = self.uri.replace(ANONYMOUS, "://")
        if LOGIN.search(bare) or redacted(bare) != bare:
            raise ConfigError(
                f"--storage {bare.split('://')[0]}://...: holds credentials, which would be "
                "written into records; give them by the environment (for S3: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or the machine's role) on every node, "
                "and leave them out here"
            )
        name, data = f".raysearch-{uuid.uuid4().hex}", b"a file that tests this storage"
        try:
            self.write(name, data)
            same = self.read(name) == data
            self.delete(name)
        except (OSError, ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"--storage {self}: cannot be used ({reason(error)}); check that the bucket or "
                "folder exists, and that this machine may write, read and delete there (for S3: "
                "AWS_ACCESS_KEY_ID or a role, region=... in the URI)"
            ) from error
        if not same:
            raise ConfigError(f"--storage {self}: does not give back what was written; use another")

    def _place(self, name: str = "") -> tuple[Any, str]:
        system, base = _open(self.uri)
        parts = [base.rstrip("/"), self.folder, name]
        return system, "/".join(part for part in parts if part)

    @contextmanager
    def _written(self, name: str) -> Iterator[Any]:
        """Open a file for writing that is there once it is whole."""
        system, path = self._place(name)
        if system.type_name in OBJECT_STORES:
            with system.open_output_stream(path) as stream:
                yield stream
            return
        folder, _, last = path.rpartition("/")
        aside = f"{folder}/.{last}.{uuid.uuid4().hex}"
        system.create_dir(folder, recursive=True)
        with system.open_output_stream(aside) as stream:
            yield stream
        system.move(aside, path)


@cache
def _open(uri: str) -> tuple[Any, str]:
    """Return pyarrow's file system of a URI, and the path in it."""
    from pyarrow.fs import FileSystem

    found: tuple[Any, str] = FileSystem.from_uri(uri)
    return found


def _leads_down(name: str) -> bool:
    """Whether a name stays below a folder, on any system: an object may have any name."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or {"\\", ":", "\0"} & set(name))


def reason(error: Exception) -> str:
    """Say in one line what went wrong, without credentials."""
    return redacted(first_line(error))[:300]
