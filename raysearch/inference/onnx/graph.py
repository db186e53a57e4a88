"""A model as one module that `torch.export` can trace: prepared images in, probabilities out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from raysearch.inference.models import Model
from raysearch.inference.tta import IDENTITY, TRANSFORMS
from raysearch.training.trained import Trained

# Views that a graph can hold: whether rows and columns are exchanged first, then along which
# dimensions pixels are mirrored.
VIEWS: dict[str, tuple[bool, tuple[int, ...]]] = {
    IDENTITY: (False, ()),
    "flip_horizontal": (False, (-1,)),
    "flip_vertical": (False, (-2,)),
    "turn_90": (True, (-2,)),
    "turn_180": (False, (-2, -1)),
    "turn_270": (True, (-1,)),
}


def image_sizes(model: Model) -> list[int | None]:
    """Return the image sizes that the members see, each once: the graph has an input for each."""
    return list(dict.fromkeys(member.recipe.image_size for member in model.members))


class Graph(nn.Module):
    """Says what `Model.probabilities` says, of images that are prepared already."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.networks = nn.ModuleList(member.network for member in model.members)
        self.normalise = nn.ModuleList(member.normalise for member in model.members)
        self.image_sizes = image_sizes(model)

    def forward(self, images: Sequence[Tensor], size: Tensor | None = None) -> Tensor:
        """Return probabilities: (N, K), or (N, K, height, width).

        Args:
            images: float32 (N, C, h, w) for each of `image_sizes`, in the units that they are
                stored in.
            size: int64 (2,), height and width of the masks before they were prepared, which the
                answer shall have. None gives the size of the prepared images.
        """
        total: Tensor | None = None
        for member, weight in zip(self.model.members, self.model.weights, strict=True):
            shown = images[self.image_sizes.index(member.recipe.image_size)]
            logits: dict[str, Tensor] = {}
            for turned in (False, True):
                names = [name for name in self.model.tta if VIEWS[name][0] == turned]
                if names:
                    logits |= _asked(member, shown, names, turned, size)
            added = weight * self.model.answer(logits)
            total = added if total is None else total + added
        assert total is not None
        return self.model.settled(total)


def _asked(
    member: Trained, images: Tensor, names: Sequence[str], turned: bool, size: Tensor | None
) -> dict[str, Tensor]:
    """Ask about several views of one shape at once: a network is traced, and stands in the graph,
    once for all of them."""
    inside = None if size is None else fitted_size(size, member.recipe.image_size)
    views = torch.stack([_view(images, name, inside) for name in names])
    logits: Tensor = member.network(member.normalise(views.flatten(0, 1))).semantic.float()
    if size is not None:
        assert inside is not None
        if turned:
            inside, size = inside.flip(0), size.flip(0)
        logits = _native(logits, inside, size, member.recipe.image_size is not None)
    parts = logits.unflatten(0, (len(names), images.shape[0]))
    segments = member.task.segments
    return {
        name: TRANSFORMS[name].undo(part) if segments else part
        for name, part in zip(names, parts.unbind(), strict=True)
    }


def fitted_size(size: Tensor, long_side: int | None) -> Tensor:
    """Return what `raysearch.data.resize.fitted` does, of a size int64 (2,) known at run time."""
    if long_side is None:
        return size
    exact = size.double()
    return (exact * (long_side / exact.max())).round().clamp(min=1).long()


def _native(logits: Tensor, inside: Tensor, size: Tensor, resized: bool) -> Tensor:
    """Cut the padding off logits (N, K, h, w), and bring the rest to a size."""
    height, width = _numbers(inside)
    logits = logits[..., :height, :width]
    if not resized:
        return logits
    return interpolate(logits, _numbers(size), mode="bilinear", align_corners=False)


def _numbers(size: Tensor) -> list[int]:
    numbers: list[int] = size.tolist()
    for number in numbers:
        torch._check(number >= 1)
    return numbers


def _view(images: Tensor, name: str, inside: Tensor | None) -> Tensor:
    """Mirror or turn images (N, C, h, w), of which only what is inside is no padding."""
    if inside is None:
        return TRANSFORMS[name].apply(images)
    turned, mirrored = VIEWS[name]
    if turned:
        images, inside = images.transpose(-2, -1), inside.flip(0)
    for dim in mirrored:
        images = _mirrored(images, dim, inside[dim])
    return images


def _mirrored(images: Tensor, dim: int, length: Tensor) -> Tensor:
    """Mirror what lies within a length, and pad it anew as `raysearch.data.validation.prepared`
    does: by mirroring without the outermost pixel."""
    period = (2 * (length - 1)).clamp(min=1)
    at = torch.arange(images.shape[dim], device=images.device) % period
    there = torch.minimum(at, period - at).clamp(max=length - 1)
    return images.index_select(dim, length - 1 - there)
