"""A tiny random VOC data set in the true layout, with the oddities that real ones have."""

from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.config import DataConfig
from raysearch.data.formats.voc import standard_palette

CLASSES = ("background", "cat", "dog")
COLOURS = {"background": (0, 0, 0), "cat": (224, 64, 64), "dog": (32, 128, 224)}
VOID = (224, 224, 192)
SHAPES = [(40, 48), (48, 40), (36, 36)]


def config(**values: object) -> DataConfig:
    return DataConfig(format="voc", classes=CLASSES, **values)


def random_image(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def random_mask(shape: tuple[int, int], class_id: int) -> np.ndarray:
    """Background with a block of a class and an ignored border of one pixel to its right."""
    mask = np.zeros(shape, dtype=np.uint8)
    mask[8:24, 6:20] = class_id
    mask[8:24, 20] = 255
    return mask


def coloured(mask: np.ndarray) -> np.ndarray:
    """Return a mask of ids as the colours of labelmap.txt, (H, W, 3)."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(CLASSES)] = [COLOURS[name] for name in CLASSES]
    table[255] = VOID
    return table[mask]


def with_palette(mask: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    """Return a palette picture whose numbers are the mask's and whose palette has the colours."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    for number, colour in colours.items():
        palette[number] = colour
    picture = Image.fromarray(mask)
    picture.putpalette(palette.tobytes(), "RGB")
    return picture


def standard(mask: np.ndarray) -> Image.Image:
    return with_palette(mask, {**dict(enumerate(standard_palette(3))), 255: VOID})


def write_lists(root: Path, **lists: list[str]) -> None:
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n\n", encoding="utf-8")


def write_labelmap(folder: Path) -> None:
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in COLOURS.items()]
    text = "\n".join(["# label:color_rgb:parts:actions", *lines, "", ""])
    (folder / "labelmap.txt").write_text(text, encoding="utf-8")


def write_root(root: Path, class_ids: list[int], seed: int = 0) -> list[str]:
    """Write images 000, 001.. of these classes with RGB masks; return their names."""
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    images.mkdir(parents=True)
    masks.mkdir()
    names = []
    for number, class_id in enumerate(class_ids):
        shape = SHAPES[number % len(SHAPES)]
        name = f"{number:03d}"
        Image.fromarray(random_image(shape, seed + number)).save(images / f"{name}.png")
        mask = random_mask(shape, class_id)
        Image.fromarray(coloured(mask)).save(masks / f"{name}.png")
        names.append(name)
    return names


def write_plain(root: Path, count: int = 12) -> Path:
    """One root, healthy, with a training, a validation and a test list."""
    names = write_root(root, [1 + number % 2 for number in range(count)])
    write_labelmap(root)
    half, rest = count // 2, count * 3 // 4
    write_lists(root, train=names[:half], val=names[half:rest], test=names[rest:])
    return root


def write_odd(root: Path) -> Path:
    """One root per class: repeated names, RGBA, palette and grey images, a turned photograph."""
    for number, name in enumerate(("cat", "dog")):
        names = write_root(root / name, [number + 1] * 8, seed=100 * number)
        write_lists(root / name, train=names[:6], val=names[6:])
    write_labelmap(root)
    images, masks = root / "cat" / "JPEGImages", root / "cat" / "SegmentationClass"
    pixels = random_image(SHAPES[0], 0)
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(images / "000.png")
    Image.fromarray(random_image(SHAPES[1], 1)).quantize(16).save(
        images / "001.png", transparency=bytes([0, 128])
    )
    (images / "002.png").unlink()
    Image.fromarray(random_image(SHAPES[2], 2)[..., 0]).save(images / "002.jpg")
    (images / "003.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(random_image(SHAPES[0], 3)).copy()).save(
        images / "003.JPG", "JPEG", exif=exif, quality=100, subsampling=0
    )
    mask = random_mask(SHAPES[1], 1)
    shuffled = np.select([mask == 1, mask == 255], [7, 9], 3).astype(np.uint8)
    colours = {3: COLOURS["background"], 7: COLOURS["cat"], 9: VOID}
    with_palette(shuffled, colours).save(masks / "001.png")
    twin = root / "dog" / "JPEGImages"
    (twin / "007.png").write_bytes((twin / "001.png").read_bytes())
    Image.fromarray(coloured(random_mask(SHAPES[1], 2))).save(
        root / "dog" / "SegmentationClass" / "007.png"
    )
    return root
