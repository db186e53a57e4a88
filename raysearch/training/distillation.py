"""Knowledge distillation: a student learns what its teachers think beside the labels.

Hinton et al., https://arxiv.org/abs/1503.02531. For images and for pixels; several teachers are an
ensemble, whose probabilities are averaged.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from raysearch.training.losses import LossValues

Teacher = Callable[[Tensor], Tensor]


def distillation_loss(
    student_logits: Tensor,
    teacher_probabilities: Tensor,
    temperature: float,
    valid: Tensor | None = None,
) -> Tensor:
    """Return KL(teacher || student at the temperature) * temperature ** 2, a mean.

    Args:
        student_logits: (N, K) or (N, K, h, w).
        teacher_probabilities: softmax(logits / temperature), of the same shape.
        valid: which images (N,) or pixels (N, h, w) count; None is all. With none it is 0.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    divergence = F.kl_div(student, teacher_probabilities, reduction="none").sum(1)
    if valid is None:
        return divergence.mean() * temperature**2
    return (divergence * valid).sum() / valid.sum().clamp_min(1) * temperature**2


class Distillation:
    """Blends the loss of the labels with that of the teachers.

    total = weight * soft + (1 - weight) * hard, where hard is the semantic loss; the boundary
    head's part stays as it is.
    """

    def __init__(self, teachers: Sequence[Teacher], weight: float, temperature: float) -> None:
        """Take teachers that turn raw images (N, C, h, w) into logits of the student's shape."""
        self.teachers = tuple(teachers)
        self.weight = weight
        self.temperature = temperature

    def __call__(
        self, values: LossValues, logits: Tensor, images: Tensor, ids: Tensor, ignore_index: int
    ) -> LossValues:
        """Blend the values of a batch.

        Args:
            values: of the labels.
            logits: the student's, (N, K) or (N, K, h, w).
            images: raw, as the teachers take them.
            ids: where they are (N, h, w), pixels of the ignore index do not count.
        """
        valid = ids != ignore_index if logits.dim() == 4 else None
        taught = self.probabilities(images)
        with torch.autocast(logits.device.type, enabled=False):
            soft = distillation_loss(logits.float(), taught, self.temperature, valid)
            semantic = self.weight * soft + (1 - self.weight) * values.semantic
            total = semantic + (values.total - values.semantic)
            return LossValues(total, semantic, values.boundary)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return the mean of the teachers' softmax(logits / temperature), in float32."""
        each = [F.softmax(t(images).float() / self.temperature, dim=1) for t in self.teachers]
        return torch.stack(each).mean(0)

    def live_values(self) -> dict[str, float]:
        """Return what the loss is blended by now, by the names of the recipe's fields."""
        return {"distill_weight": self.weight, "distill_temperature": self.temperature}
