"""What is to be learned: told once by the study; networks, losses and metrics ask for it once."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["segmentation", "classification"]

POSITIVE = ("f1", "precision", "recall", "positive_iou", "threshold", "max_probability")
COMMON = ("val_loss", "loss", "train_accuracy", "gap", "accuracy_gap")


@dataclass(frozen=True)
class Task:
    """Pixels or whole images to be told apart. Class 0 of a segmentation is the background.

    Attributes:
        kind: "segmentation" gives each pixel a class, "classification" each image.
        bands: of an image.
        ignore_index: the id of pixels that do not count.
    """

    kind: str
    bands: int
    classes: tuple[str, ...]
    ignore_index: int = 255

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def segments(self) -> bool:
        return self.kind == "segmentation"

    @property
    def binary(self) -> bool:
        """Whether pixels of one class are looked for, so that a threshold can be tuned."""
        return self.segments and self.num_classes == 2

    @property
    def headline(self) -> str:
        """The metric that trials are ranked by unless the study names another."""
        return "miou" if self.segments else "top1"

    @property
    def accuracy(self) -> str:
        """The metric that says which share of the pixels or images is right."""
        return "pixel_accuracy" if self.segments else "top1"

    @property
    def by_class(self) -> str:
        """What is measured for each class: iou/<class>, or accuracy/<class> (its recall)."""
        return "iou" if self.segments else "accuracy"

    @property
    def scores(self) -> tuple[str, ...]:
        """The metrics of validation, the most telling first; those by class come beside them."""
        if not self.segments:
            return ("top1", "top5", "balanced_accuracy", "lowest_accuracy")
        shared = ("miou", "lowest_iou", "pixel_accuracy")
        return (*POSITIVE, *shared) if self.binary else shared

    @property
    def metrics(self) -> tuple[str, ...]:
        """Everything that a trial reports and that an objective may name."""
        return (*self.scores, *COMMON, *(f"{self.by_class}/{name}" for name in self.classes))
