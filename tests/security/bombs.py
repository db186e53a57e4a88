"""Pictures of few bytes that claim to be huge, or are something else; each in its true form."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

SIDE = 60_000  # 3.6 thousand million pixels.


def chunk(kind: bytes, data: bytes) -> bytes:
    checked = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checked


def png(path: Path, side: int, extra: bytes = b"") -> None:
    """A PNG of one colour; the rows of a large one are as many as its header claims."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(side + 1)
    rows = b"".join(packer.compress(row) for _ in range(min(side, 500))) + packer.flush()
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", rows), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def png_of_text(path: Path) -> None:
    """128 MiB of text in a few kilobytes, beside four by four pixels."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    text = b"".join(packer.compress(block) for _ in range(128)) + packer.flush()
    png(path, 4, chunk(b"zTXt", b"Comment\0\0" + text))


def jpeg(path: Path) -> None:
    Image.new("RGB", (16, 16)).save(path, "JPEG")
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", SIDE, SIDE)
    path.write_bytes(data)


def bmp(path: Path) -> None:
    Image.new("RGB", (16, 16)).save(path, "BMP")
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", SIDE, SIDE)
    path.write_bytes(data)


def webp(path: Path) -> None:
    size = (16_000 - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + size
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def tiff(path: Path, side: int, bands: int = 1, **how: object) -> None:
    """A sparse TIFF: blocks that nobody has written take no bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        rasterio.open(
            path, "w", driver="GTiff", width=side, height=side, count=bands, dtype="uint8",
            SPARSE_OK=True, tiled=True, bigtiff="YES", **how,
        ).close()  # fmt: skip


def tiff_of_a_huge_tile(path: Path) -> None:
    """Sixteen by sixteen pixels in one tile of 48 000 by 48 000, which is decoded as a whole."""
    side = 48_000
    packer = zlib.compressobj(9)
    tile = b"".join(packer.compress(bytes(side)) for _ in range(side // 64)) + packer.flush()
    entries = [
        (256, 3, 16), (257, 3, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, side), (323, 4, side), (324, 4, 8), (325, 4, len(tile)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        table += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    data = struct.pack("<2sHI", b"II", 42, 8 + len(tile)) + tile + table + bytes(4)
    path.write_bytes(data)


def postscript(path: Path) -> None:
    """A program, which Pillow would hand to Ghostscript whatever its file is called."""
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"
    )


def plain(path: Path) -> None:
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path, "PNG")


BOMBS: dict[str, Callable[[Path], None]] = {
    "huge.png": lambda path: png(path, SIDE),
    "text.png": png_of_text,
    "huge.jpg": jpeg,
    "huge.bmp": bmp,
    "huge.webp": webp,
    "huge.tif": lambda path: tiff(path, 2 * SIDE),
    "bands.tif": lambda path: tiff(path, 512, 2000),
    "deep.tif": lambda path: tiff(path, 9_000, 40),
    "tile.tif": tiff_of_a_huge_tile,
    "blocks.tif": lambda path: tiff(
        path, 2048, 900, interleave="pixel", blockxsize=2048, blockysize=2048
    ),
    "postscript.png": postscript,
}
