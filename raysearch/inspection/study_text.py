"""The text of a first study: what was found as comments, and a sensible search space."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from raysearch.inspection.new_study import Facts

LARGEST_CROP, LARGEST_SIDE, QUICK_SIDE, STEP = 512, 1024, 128, 32
USUAL_SIZE, QUICK_SIZE = 224, 96
IMBALANCE = {"segmentation": 10.0, "classification": 2.0}
MOST_BANDS_SHOWN = 40


def study_text(facts: "Facts", name: str, target: Path) -> str:
    """Return the YAML, with comments, of a study that is to stand at target."""
    segments = facts.task == "segmentation"
    parts = [
        _heading(facts),
        f"name: {_flow(name)}",
        "" if segments else "task: classification",
        _data(facts, target),
        _classes(facts),
        _bands(facts),
        _segmentation(facts) if segments else _classification(facts),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _heading(facts: "Facts") -> str:
    looked = "" if facts.looked_at == facts.total else f" ({facts.looked_at} looked at)"
    lines = [
        "# A first study, written by `python -m raysearch.check new`. Change whatever you know "
        "better.",
        "#",
        f"# {counted(facts.total, 'image')}{looked} of {_sizes(facts)}, "
        f"{counted(facts.data.bands, 'band')} of {facts.dtype}.",
    ]
    if facts.faults:
        lines.append(
            f"# {len(facts.faults)} of those looked at cannot be used: `python -m raysearch.check` "
            "with this file names them."
        )
    return "\n".join(lines)


def counted(count: int, what: str) -> str:
    """Return "1 image", or "2 images"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _sizes(facts: "Facts") -> str:
    sizes = Counter(f"{width}x{height}" for height, width in facts.shapes.tolist())
    if len(sizes) <= 3:
        return " and ".join(f"{size} pixels" for size in sizes)
    (low, narrow), (high, wide) = facts.shapes.min(axis=0), facts.shapes.max(axis=0)
    return f"{len(sizes)} sizes, {narrow} to {wide} pixels wide and {low} to {high} high"


def _data(facts: "Facts", target: Path) -> str:
    data = facts.data
    lines = ["", "data:", f"  format: {data.format}", f"  path: {_flow(_path(facts, target))}"]
    if "class_1" in data.classes or "foreground" in data.classes:
        lines.append("  # The files number the classes: give them their names, in this order.")
    lines += [f"  classes: {_flow(list(data.classes))}", f"  bands: {data.bands}"]
    if data.options:
        lines += ["  options:", *(f"    {key}: {_flow(v)}" for key, v in data.options.items())]
    if data.bands > 3:
        lines += [] if data.options else ["  # options:"]
        mark = "    # " if data.options else "  #   "
        lines += [
            f"{mark}To leave bands out, pick others by number (from 1), and set bands to how many:",
            f"{mark}bands: {_flow(list(range(1, data.bands)))}",
        ]
    if facts.task == "classification" and (side := _cache_side(facts)):
        lines += [
            "  # Stored at this shorter side, which is read much faster.",
            f"  cache_side: {side}",
        ]
    return "\n".join([*lines, *_splits(facts)])


def _path(facts: "Facts", target: Path) -> str:
    """Return the data's path: relative where it lies beside or below the study's file."""
    home = target.resolve().parent
    inside = facts.folder.is_relative_to(home)
    return (facts.folder.relative_to(home) if inside else facts.folder).as_posix()


def _splits(facts: "Facts") -> list[str]:
    named = {split: count for split, count in facts.listed.items() if split}
    if not named:
        return ["  # No lists: validation and test images are held out, the same for each --seed."]
    counts = ", ".join(f"{split} {count}" for split, count in sorted(named.items()))
    lines = [f"  # Its lists: {counts}."]
    if "test" not in named:
        lines.append(
            "  # Without a test list, val becomes the test split; splits: official takes the lists."
        )
    return lines


def _classes(facts: "Facts") -> str:
    pixels = facts.classes.sum(axis=0)
    holding = (facts.classes > 0).sum(axis=0)
    whole = max(1, int(pixels.sum()))
    width = max(map(len, facts.data.classes))
    what = "of pixels" if facts.task == "segmentation" else "of images"
    lines = ["", f"# {'class':<{width}}  share {what}  images"]
    lines += [
        f"# {name:<{width}}  {100 * count / whole:13.2f} %  {images:6d}"
        for name, count, images in zip(facts.data.classes, pixels, holding, strict=True)
    ]
    return "\n".join(lines)


def _bands(facts: "Facts") -> str:
    lines = ["", "# band        low        1 %       mean       99 %       high        std"]
    for band in facts.bands[:MOST_BANDS_SHOWN]:
        values = (band.low, band.first, band.mean, band.last, band.high, band.std)
        lines.append(f"# {band.number:4d} " + " ".join(f"{value:10.4g}" for value in values))
    if len(facts.bands) > MOST_BANDS_SHOWN:
        lines.append(f"# and {len(facts.bands) - MOST_BANDS_SHOWN} more")
    if facts.no_data:
        lines.append(f"# {100 * facts.no_data:.2f} % of the values are missing.")
    return "\n".join(lines)


def _weights(facts: "Facts") -> str:
    """Return the line that weighs classes where one is much rarer than another."""
    pixels = facts.classes.sum(axis=0)
    present = pixels[pixels > 0]
    if len(present) < 2 or present.max() <= IMBALANCE[facts.task] * present.min():
        return ""
    ratio = present.max() / present.min()
    return f"  class_weights: frequency  # the commonest class is {ratio:.0f} times the rarest"


def _segmentation(facts: "Facts") -> str:
    long_side = int(np.median(facts.shapes.max(axis=1)))
    scale = min(1.0, LARGEST_SIDE / long_side)
    crop = _multiple(int(np.median(facts.shapes.min(axis=1)) * scale), LARGEST_CROP)
    colour = facts.data.bands == 3
    quick = min(QUICK_SIDE, crop)
    resized = "" if long_side <= quick else f"image_size: {quick}, "
    binary = len(facts.data.classes) == 2
    lines = [
        "",
        f"objective: {{metric: {'positive_iou' if binary else 'miou'}}}",
        "",
        "networks:",
        "  unet: {type: unet, width: 64, depth: 4}",
        "  efficientnet_b3: {type: smp, decoder: unet, encoder: efficientnet-b3, "
        "encoder_weights: imagenet}"
        if colour
        else "  se_unet: {type: se_unet, width: 64, depth: 4}",
        "",
        "space:",
        f"  architecture: [unet, {'efficientnet_b3' if colour else 'se_unet'}]",
        "  learning_rate: {low: 1e-4, high: 3e-3, log: true}",
        "  loss: [cross_entropy + dice, focal + dice]",
        "  focal_gamma: {low: 1.0, high: 3.0, when: {loss: focal + dice}}",
        f"  batch_size: {_flow(_batches(facts, crop))}",
        "  augment_strength: {low: 0.0, high: 1.5}",
        "  boundary_weight: {low: 0.0, high: 0.5}",
        "",
        "fixed:",
        *([f"  image_size: {LARGEST_SIDE}  # the longer side"] if scale < 1 else []),
        f"  crop_size: {crop}",
        *([_weights(facts)] if _weights(facts) else []),
        *([] if colour else ["  quarter_turns: true  # if seen from above; else take it out"]),
        "  schedule: cosine",
        "  weight_decay: 0.01",
        "",
        *_budget(40, 100),
        "    networks:",
        "      unet: {type: unet, width: 16, depth: 4}",
        "      efficientnet_b3: {type: smp, decoder: unet, encoder: tu-resnet10t,"
        " encoder_weights: imagenet,\n"
        "                        decoder_channels: [128, 64, 48, 32, 16]}"
        if colour
        else "      se_unet: {type: se_unet, width: 16, depth: 4, dropout: 0.1}",
        f"    fixed: {{{resized}crop_size: {quick}, batch_size: {_batches(facts, quick)[0]}}}",
        *_quick_end(),
    ]
    return "\n".join(lines)


def _classification(facts: "Facts") -> str:
    size = _image_size(facts)
    quick = min(QUICK_SIZE, size)
    lines = [
        "",
        "objective: {metric: top1}",
        "",
        "networks:",
        f"  resnet50: {{type: timm, model: resnet50{_pretrained(facts)}}}",
        f"  efficientnet_b0: {{type: timm, model: efficientnet_b0{_pretrained(facts)}}}",
        "",
        "space:",
        "  architecture: [resnet50, efficientnet_b0]",
        "  learning_rate: {low: 1e-4, high: 3e-3, log: true}",
        f"  batch_size: {_flow(_batches(facts, size))}",
        "  augment_strength: {low: 0.0, high: 1.5}",
        "  mixup_alpha: {low: 0.0, high: 0.4}",
        "  label_smoothing: {low: 0.0, high: 0.2}",
        "  network.dropout: {low: 0.0, high: 0.4}",
        "",
        "fixed:",
        f"  image_size: {size}",
        *([_weights(facts)] if _weights(facts) else []),
        "  loss: cross_entropy",
        "  schedule: cosine",
        "  weight_decay: 0.01",
        "",
        *_budget(30, 60),
        "    networks:",
        f"      resnet50: {{type: timm, model: resnet10t{_pretrained(facts)}}}",
        f"      efficientnet_b0: {{type: timm, model: mobilenetv3_small_100{_pretrained(facts)}}}",
        f"    fixed: {{image_size: {quick}, batch_size: {_batches(facts, quick)[0]}}}",
        *_quick_end(),
    ]
    return "\n".join(lines)


def _pretrained(facts: "Facts") -> str:
    return ", encoder_weights: imagenet" if facts.data.bands == 3 else ""


def _budget(trials: int, epochs: int) -> list[str]:
    return [
        f"budget: {{trials: {trials}, epochs: {epochs}}}",
        "",
        "profiles:",
        "  full: {}",
        "  quick:  # smaller networks and images, for a CPU; chosen where there is no GPU",
    ]


def _quick_end() -> list[str]:
    return ["    budget: {trials: 8, epochs: 20, minutes: 6}", "    allow_random_weights: true"]


def _batches(facts: "Facts", side: int) -> list[int]:
    """Return up to two batch sizes that fit images of a side, and half of the training set."""
    usual = 8 if side > 256 else 16 if side > 128 else 32
    listed = facts.listed.get("train", 0) or facts.total
    most = 1 << max(1, int(0.64 * listed) // 2).bit_length() - 1
    return sorted({min(usual // 2, most), min(usual, most)})


def _image_size(facts: "Facts") -> int:
    return _multiple(int(np.median(facts.shapes.min(axis=1))), USUAL_SIZE)


def _cache_side(facts: "Facts") -> int | None:
    """Return a size somewhat above the images' in training, where the files are much larger."""
    side = _image_size(facts) * 8 // 7
    return side if np.median(facts.shapes.min(axis=1)) > 1.5 * side else None


def _multiple(side: int, most: int) -> int:
    """Return the largest multiple of 32 that is not above a side, and at most `most`."""
    return max(STEP, min(most, side // STEP * STEP))


def _flow(value: Any) -> str:
    """Return a value as YAML in one piece, wrapped and indented where it is long."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=85)
    return text.removesuffix("...\n").strip().replace("\n", "\n    ")
