"""Tiny random sets of classified pictures: Food-101's layout, and class folders."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from raysearch.config import DataConfig

CLASSES = ("apple_pie", "baklava", "sushi")
SHAPES = [(40, 48), (48, 40), (36, 36)]


def config(**values: object) -> DataConfig:
    return DataConfig(**{"format": "food101", "classes": CLASSES, **values})


def folders_config(**values: object) -> DataConfig:
    return config(**{"format": "class_folders", **values})


def pixels(seed: int, shape: tuple[int, int] = SHAPES[0]) -> np.ndarray:
    """Return a random picture (H, W, 3), smooth enough to outlive a JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BILINEAR))


def save(path: Path, picture: Image.Image, **keys: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "JPEG" if path.suffix.lower() == ".jpg" else None
    picture.save(path, form, **({"quality": 95} if form else {}), **keys)


def write_list(path: Path, names: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def write_food101(root: Path, train: int = 4, test: int = 2) -> Path:
    """Healthy: pictures of three classes with ids like Food-101's, lists and names."""
    names: dict[str, list[str]] = {"train": [], "test": []}
    for number, class_ in enumerate(CLASSES):
        for count in range(train + test):
            stem = str(1005649 + 1000 * number + 17 * count)
            shape = SHAPES[count % len(SHAPES)]
            picture = Image.fromarray(pixels(100 * number + count, shape))
            save(root / "images" / class_ / f"{stem}.jpg", picture)
            names["train" if count < train else "test"].append(f"{class_}/{stem}")
    for split, lines in names.items():
        write_list(root / "meta" / f"{split}.txt", lines)
    write_list(root / "meta" / "classes.txt", CLASSES)
    write_list(root / "meta" / "labels.txt", ["Apple pie", "Baklava", "Sushi"])
    return root


def write_odd_food101(root: Path) -> Path:
    """With what real sets have: grey, CMYK and turned photographs, PNG under .jpg, a blank line.

    By number within apple_pie: 0 grey, 1 CMYK, 2 turned by EXIF, 3 a palette PNG with the ending of
    a JPEG; the first of baklava is RGBA in a .png; one picture no list names.
    """
    write_food101(root)
    pies = sorted((root / "images" / "apple_pie").iterdir())
    save(pies[0], Image.fromarray(pixels(0)).convert("L"))
    save(pies[1], Image.fromarray(pixels(1)).convert("CMYK"))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(pies[2], Image.fromarray(np.rot90(pixels(2)).copy()), exif=exif)
    Image.fromarray(pixels(3)).quantize(64).save(pies[3], "PNG", transparency=bytes([0, 9]))
    first = sorted((root / "images" / "baklava").iterdir())[0]
    first.unlink()
    save(first.with_suffix(".png"), Image.fromarray(np.dstack([pixels(100), pixels(5)[..., 0]])))
    save(root / "images" / "sushi" / "999.jpg", Image.fromarray(pixels(7)))
    (root / "images" / ".DS_Store").write_bytes(b"\0")
    with (root / "meta" / "train.txt").open("a", encoding="utf-8") as file:
        file.write("\n")
    return root


def write_class_folders(root: Path, split: str = "", count: int = 6) -> Path:
    """A folder for each class, below a split's folder where one is given."""
    for number, class_ in enumerate(CLASSES):
        for index in range(count):
            ending = (".jpg", ".png", ".webp", ".JPG")[index % 4]
            shape = SHAPES[index % len(SHAPES)]
            picture = Image.fromarray(pixels(100 * number + index + 7 * len(split), shape))
            save(root / split / class_ / f"{index:03d}{ending}", picture)
    return root


def write_odd_class_folders(root: Path) -> Path:
    """Folders below a class's, one name with two endings, hidden and foreign files, grey, RGBA."""
    write_class_folders(root)
    save(root / "sushi" / "evening" / "000.jpg", Image.fromarray(pixels(50)))
    save(root / "sushi" / "evening" / "001.jpg", Image.fromarray(pixels(51)))
    save(root / "sushi" / "000.png", Image.fromarray(pixels(52)).convert("LA"))
    save(
        root / "baklava" / "alpha.png", Image.fromarray(np.dstack([pixels(53), pixels(5)[..., 0]]))
    )
    (root / "baklava" / "._000.jpg").write_bytes(b"resource fork")
    (root / "baklava" / "Thumbs.db").write_bytes(b"\0")
    (root / ".cache" / "x").mkdir(parents=True)
    (root / ".cache" / "x" / "a.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("nothing", encoding="utf-8")
    (root / "empty").mkdir()
    return root
