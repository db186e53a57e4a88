"""MixUp and CutMix: labels that sum to one, the draws of timm, and nothing where they are off."""

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup
from torch import Tensor
from torch.nn import functional as F

from raysearch.config import Recipe, Task
from raysearch.models import Output
from raysearch.training.losses import build_loss
from raysearch.training.mixing import Mixed, Mixing

MASKS = Task("segmentation", bands=2, classes=("ground", "cat", "dog"))
IMAGES = Task("classification", bands=2, classes=("cat", "dog", "owl"))
SEED = (3, 1, 4)


def mixing(task: Task, **values: float) -> Mixing:
    return Mixing(Recipe.model_validate({"architecture": "unet", **values}), task)


def batch(task: Task, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 2, 16, 12, generator=generator)
    shape = (count, 16, 12) if task.segments else (count,)
    return images, torch.randint(0, 3, shape, generator=generator)


def timms(seed: tuple[int, ...], count: int = 4, **values: float) -> tuple[Tensor, Tensor]:
    """What timm makes of the images and of labels, from the same seed."""
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    images, ids = batch(IMAGES, count)
    return Mixup(**values, label_smoothing=0.0, num_classes=3)(images, ids)


@pytest.mark.parametrize("task", [MASKS, IMAGES])
class TestBoth:
    def test_off_hands_the_batch_on(self, task: Task) -> None:
        images, ids = batch(task)
        weights = torch.rand(ids.shape)
        mixed = mixing(task)(images, ids, weights, SEED)
        (part,) = mixed.parts
        assert mixed.images is images
        assert part.ids is ids
        assert part.weights is weights
        assert part.share == 1

    @pytest.mark.parametrize("values", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
    def test_numbers_come_from_the_seed_alone(self, task: Task, values: dict[str, float]) -> None:
        made = mixing(task, **values)
        first = made(*batch(task), None, SEED)
        np.random.seed(1)
        again = made(*batch(task), None, SEED)
        other = made(*batch(task), None, (3, 1, 5))
        assert torch.equal(first.images, again.images)
        assert not torch.equal(first.images, other.images)

    def test_numpys_own_numbers_go_on(self, task: Task) -> None:
        np.random.seed(1)
        expected = np.random.rand(3)
        np.random.seed(1)
        mixing(task, mixup_alpha=0.4, cutmix_alpha=1.0)(*batch(task), None, SEED)
        assert (np.random.rand(3) == expected).all()

    def test_the_batch_itself_stays(self, task: Task) -> None:
        images, ids = batch(task)
        mixing(task, cutmix_alpha=1.0)(images, ids, None, SEED)
        assert torch.equal(images, batch(task)[0])
        assert torch.equal(ids, batch(task)[1])

    def test_probability_is_a_share_of_the_batches(self, task: Task) -> None:
        made = mixing(task, mixup_alpha=1.0, mix_probability=0.3)
        images, ids = batch(task)
        changed = [
            not torch.equal(made(images, ids, None, (0, n)).images, images) for n in range(300)
        ]
        assert 0.2 < np.mean(changed) < 0.4

    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_any_number_of_images(self, task: Task, count: int) -> None:
        mixed = mixing(task, mixup_alpha=1.0, cutmix_alpha=1.0)(*batch(task, count), None, SEED)
        assert mixed.images.shape == (count, 2, 16, 12)
        assert all(len(part.ids) == count for part in mixed.parts)
        assert sum(part.share for part in mixed.parts) == pytest.approx(1)

    def test_live_values(self, task: Task) -> None:
        values = {"mixup_alpha": 0.4, "cutmix_alpha": 1.5, "mix_probability": 0.7}
        made = mixing(task, **values)
        assert made.live_values() == values
        made.mixup.mixup_alpha = 0.1
        assert made.live_values()["mixup_alpha"] == 0.1
        assert mixing(task).live_values() == {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}


class TestWholeImages:
    @pytest.mark.parametrize("values", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
    def test_it_is_timm(self, values: dict[str, float]) -> None:
        values = {"mixup_alpha": 0.0, **values}
        mixed = mixing(IMAGES, **values)(*batch(IMAGES), None, SEED)
        images, labels = timms(SEED, **values)
        assert torch.equal(mixed.images, images)
        assert torch.equal(mixed.parts[0].ids, labels)

    def test_labels_sum_to_one(self) -> None:
        made = mixing(IMAGES, mixup_alpha=0.8, cutmix_alpha=1.0)
        for step in range(20):
            labels = made(*batch(IMAGES, 5), None, (step,)).parts[0].ids
            assert labels.shape == (5, 3)
            torch.testing.assert_close(labels.sum(1), torch.ones(5))
            assert (labels >= 0).all()

    def test_of_an_odd_number_the_last_image_stays(self) -> None:
        images, ids = batch(IMAGES, 5)
        mixed = mixing(IMAGES, mixup_alpha=5.0)(images, ids, None, SEED)
        assert torch.equal(mixed.images[4], images[4])
        assert torch.equal(mixed.parts[0].ids[4], F.one_hot(ids[4], 3).float())
        assert not torch.equal(mixed.images[:4], images[:4])

    def test_the_loss_smooths_mixed_labels(self) -> None:
        made = mixing(IMAGES, mixup_alpha=5.0)
        labels = made(*batch(IMAGES), None, SEED).parts[0].ids
        logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
        asked = Recipe.model_validate({"architecture": "unet", "label_smoothing": 0.1})
        value = build_loss(asked, IMAGES)(Output(logits, None), labels).total
        expected = -((0.9 * labels + 0.1 / 3) * logits.log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(value, expected)


class TestMasks:
    def test_mixup_gives_both_masks_their_shares(self) -> None:
        images, ids = batch(MASKS)
        weights = torch.rand(ids.shape)
        mixed = mixing(MASKS, mixup_alpha=5.0)(images, ids, weights, SEED)
        own, partner = mixed.parts
        assert own.share + partner.share == pytest.approx(1)
        assert 0 < own.share < 1
        expected = own.share * images + partner.share * images.flip(0)
        torch.testing.assert_close(mixed.images, expected)
        assert torch.equal(own.ids, ids)
        assert torch.equal(partner.ids, ids.flip(0))
        assert torch.equal(own.weights, weights)
        assert torch.equal(partner.weights, weights.flip(0))

    def test_mixup_is_timms(self) -> None:
        mixed = mixing(MASKS, mixup_alpha=0.4)(*batch(MASKS), None, SEED)
        torch.testing.assert_close(mixed.images, timms(SEED, mixup_alpha=0.4)[0])

    def test_cutmix_is_timms_box(self) -> None:
        mixed = mixing(MASKS, cutmix_alpha=1.0)(*batch(MASKS), None, SEED)
        images, _ = timms(SEED, mixup_alpha=0.0, cutmix_alpha=1.0)
        assert torch.equal(mixed.images, images)

    def test_cutmix_pastes_image_mask_and_weights_alike(self) -> None:
        # Each image, mask and weight holds its own number, so that a pasted pixel tells its source.
        number = torch.arange(4)
        ids = number.view(4, 1, 1).expand(4, 16, 12)
        images = ids[:, None].expand(4, 2, 16, 12).float()
        made = mixing(MASKS, cutmix_alpha=1.0)
        boxes = []
        for step in range(10):
            mixed = made(images, ids, ids.float(), (step,))
            (part,) = mixed.parts
            assert part.share == 1
            assert torch.equal(mixed.images, part.ids[:, None].expand(4, 2, 16, 12).float())
            assert torch.equal(part.weights, part.ids.float())
            boxes.append(self.box_of_partner(mixed, ids))
        assert len({box.sum().item() for box in boxes}) > 3
        assert any(0 < box.sum() < box.numel() for box in boxes)

    @staticmethod
    def box_of_partner(mixed: Mixed, ids: Tensor) -> Tensor:
        """Where pixels come from the partner: the same rectangle in every image."""
        pasted = mixed.parts[0].ids != ids
        assert torch.equal(mixed.parts[0].ids[pasted], ids.flip(0)[pasted])
        box = pasted[0]
        assert all(torch.equal(other, box) for other in pasted)
        assert torch.equal(box, box.any(1, keepdim=True) & box.any(0, keepdim=True))
        return box

    def test_a_batch_is_mixed_in_one_way_or_the_other(self) -> None:
        made = mixing(MASKS, mixup_alpha=1.0, cutmix_alpha=1.0)
        kinds = [len(made(*batch(MASKS), None, (n,)).parts) for n in range(200)]
        assert 60 < kinds.count(2) < 140
