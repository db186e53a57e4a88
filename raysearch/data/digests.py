"""Digests of bytes and files, by which duplicates are found and caches are named."""

from hashlib import blake2b
from pathlib import Path

from raysearch.errors import DataError


def digest(data: bytes) -> str:
    """Return the digest of bytes, 32 hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return digest(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
