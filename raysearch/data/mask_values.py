"""What the numbers and colours of masks mean: looked up, and guessed for a first study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.data import images, rasters
from raysearch.data.decoding import THREADS
from raysearch.errors import DataError

LOOKED_AT = 64
MOST_VALUES = 64
GUESS_PIXELS = 1 << 28

Colour = tuple[int, int, int]


def read_mask(path: Path, max_pixels: int) -> tuple[NDArray[Any], float | None]:
    """Return a mask's numbers (H, W) or colours (H, W, C), and the number that means no data."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return images.read_mask(path, max_pixels)[0], None
    header = rasters.header(path, max_pixels)
    pixels = rasters.read(path, max_pixels=max_pixels, declared=False)
    return (pixels[..., 0] if header.count == 1 else pixels), header.no_data


def is_coloured(pixels: NDArray[Any]) -> bool:
    """Whether the channels differ; a grey mask may be saved as a coloured picture too."""
    return pixels.ndim == 3 and bool((pixels[..., :1] != pixels[..., 1:3]).any())


def look_up(
    pixels: NDArray[Any],
    ids: Mapping[Any, int],
    path: Path,
    option: str,
    text: Callable[[Any], str] = str,
) -> NDArray[np.uint8]:
    """Return ids[pixels].

    Raises:
        DataError: values without an id, named by `text`, and the option that would name them.
    """
    result = np.zeros(pixels.shape, dtype=np.uint8)
    known = np.zeros(pixels.shape, dtype=bool)
    for value, number in ids.items():
        here = pixels == value
        result[here] = number
        known |= here
    if known.all():
        return result
    values, counts = np.unique(pixels[~known], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    named = ", ".join(f"{text(values[at])} on {counts[at]} pixels" for at in order[:3])
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    hint = "; JPEG changes values, so save masks as PNG" if lossy else ""
    raise DataError(
        f"{path}: no class has the value {named}{more}; name it in data.options.{option}{hint}"
    )


def code(colour: Sequence[int]) -> int:
    """Return a colour as one number."""
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def codes(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the colours of (H, W, C), or the greys of (H, W), as one number each."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    return red << 16 | green << 8 | blue


def colour(number: int) -> Colour:
    """Return the colour of one number."""
    return int(number) >> 16, (int(number) >> 8) & 255, int(number) & 255


def colour_text(number: int) -> str:
    return str(colour(number))


def spread(paths: Sequence[Path], most: int = LOOKED_AT) -> list[Path]:
    """Return at most so many of the paths, evenly spread."""
    step = max(1, -(-len(paths) // most))
    return list(paths[::step])


def some(paths: Sequence[Path]) -> Iterator[NDArray[Any]]:
    """Yield some of the masks; a damaged one is told of when it is read itself."""
    for path in spread(paths):
        try:
            yield read_mask(path, GUESS_PIXELS)[0]
        except DataError:
            continue


def holds_white(paths: Sequence[Path], max_pixels: int) -> bool:
    """Whether some of the masks hold a 255, and none of all masks a 1.

    Damaged masks are told of when they are read themselves.
    """

    def held(path: Path) -> tuple[bool, bool]:
        try:
            pixels, _ = read_mask(path, max_pixels)
        except DataError:
            return False, False
        return bool((pixels == 1).any()), bool((pixels == 255).any())

    white = False
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(paths), LOOKED_AT):
            for one, full in pool.map(held, paths[first : first + LOOKED_AT]):
                if one:
                    return False
                white = white or full
    return white


def guess(paths: Sequence[Path]) -> tuple[list[str], dict[str, Any]]:
    """Return names for the classes that some of the masks hold, and the options that say so."""
    coloured: set[int] = set()
    grey: set[float] = set()
    for pixels in some(paths):
        if is_coloured(pixels):
            coloured |= set(np.unique(codes(pixels)).tolist())
        else:
            plain = pixels if pixels.ndim == 2 else pixels[..., 0]
            grey |= set(np.unique(plain[np.isfinite(plain)]).tolist())
        if max(len(coloured), len(grey)) > MOST_VALUES:
            return _names(2), {}
    if not coloured:
        return _numbered(sorted(grey))
    found = sorted(coloured | {code([int(value)] * 3) for value in grey})
    names = _names(len(found))
    return names, {"colours": {n: list(colour(c)) for n, c in zip(names, found, strict=True)}}


def _numbered(values: Sequence[float]) -> tuple[list[str], dict[str, Any]]:
    """Ids as they are, where most of them occur; any other numbers are named one by one."""
    ids = [int(value) for value in values if value != 255]
    if set(values) <= {0, 1, 255} or not ids:
        return _names(2), {}
    if min(ids) >= 0 and max(ids) < 2 * len(ids):
        return _names(max(ids) + 1), {}
    names = _names(len(values))
    return names, {"mask_values": {int(v): n for v, n in zip(values, names, strict=True)}}


def _names(count: int) -> list[str]:
    if count <= 2:
        return ["background", "foreground"]
    return ["background", *(f"class_{number}" for number in range(1, count))]
