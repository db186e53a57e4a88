"""Ids of masks' classes fit into a byte, and none of them is the id of pixels that do not count."""

from typing import Any

import pytest
from pydantic import ValidationError

from raysearch.config import DataConfig, Study

MANY = [f"class {number}" for number in range(256)]


def study(task: str, **data: Any) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "task": task,
            "data": {"format": "pairs", **data},
            "networks": {"narrow": {"type": "unet"}},
            "space": {"batch_size": {"low": 2, "high": 4}},
            "fixed": {"architecture": "narrow", "image_size": 32},
            "budget": {"trials": 1},
        }
    )


def test_as_many_classes_as_masks_tell_apart() -> None:
    assert study("segmentation", classes=MANY[:255]).what.num_classes == 255
    assert study("classification", classes=MANY).what.num_classes == 256
    with pytest.raises(ValidationError, match=r"data\.classes: 256 classes, but masks .* 255"):
        study("segmentation", classes=MANY)


def test_pixels_of_a_class_count() -> None:
    assert study("segmentation", classes=MANY[:3], ignore_index=3).data.ignore_index == 3
    assert study("classification", classes=MANY[:3], ignore_index=0)
    message = r"data\.ignore_index: 1 is the id of 'class 1'.*set it to 255, .* from 3 on"
    with pytest.raises(ValidationError, match=message):
        study("segmentation", classes=MANY[:3], ignore_index=1)


def test_classes_that_are_found_later() -> None:
    assert study("segmentation", ignore_index=0).data == DataConfig(format="pairs", ignore_index=0)
