"""The training of one trial: the same loop for every network, launcher and number of ranks.

It knows nothing of Ray or MLflow. `fit` takes a recipe, what the machine gives, and a function to
report each epoch to; everything that must survive a kill is in the trial's folder.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysearch.config import Objective, Recipe, Task
from raysearch.data import Data, training_batches, validation_batches
from raysearch.errors import TrialError
from raysearch.models import build
from raysearch.models.batch_norm import synchronise
from raysearch.training import checkpoint
from raysearch.training.clock import Clock
from raysearch.training.device import Precision, find_device, peak_memory_mb, prepare
from raysearch.training.history import append_epoch, forget_after
from raysearch.training.live import check_live, live_values
from raysearch.training.losses import build_loss
from raysearch.training.metrics import SegmentationMetrics
from raysearch.training.normalisation import Normalisation
from raysearch.training.optimisation import Ema, build_optimizer, build_schedule
from raysearch.training.probe import Probe

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Machine:
    """What the machine gives a trial: one of `world` ranks, its threads and loader workers."""

    rank: int = 0
    world: int = 1
    threads: int = 1
    loader_workers: int = 0
    device: torch.device | None = None


class Training:
    """One trial on one rank."""

    def __init__(
        self,
        recipe: Recipe,
        spec: dict[str, Any],
        task: Task,
        data: Data,
        objective: Objective,
        folder: Path,
        machine: Machine = Machine(),
    ) -> None:
        self.recipe, self.task, self.data, self.objective = recipe, task, data, objective
        self.folder, self.machine = folder, machine
        self.device = machine.device or find_device()
        folder.mkdir(parents=True, exist_ok=True)
        prepare(recipe.seed, machine.threads, self.device)
        build_clock = Clock()
        network = build(spec, task).to(self.device)
        self.build_seconds = build_clock.working()
        self.parameters = sum(p.numel() for p in network.parameters())
        if recipe.channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.network: nn.Module = synchronise(network, self.device) if self.ranks else network
        frequency = torch.from_numpy(data.class_frequency)
        self.loss = build_loss(recipe, task, frequency).to(self.device)
        self.normalise = Normalisation(data).to(self.device)
        self.optimizer = build_optimizer(recipe, self.network)
        pinned = self.device.type == "cuda"
        share = (machine.rank, machine.world, machine.loader_workers, pinned)
        self.batches = training_batches(data, recipe, task, *share)
        self.validation = validation_batches(data, recipe, *share)
        self.schedule = build_schedule(recipe, self.optimizer, len(self.batches))
        self.ema = Ema(self.network, recipe.ema_decay) if recipe.ema_decay else None
        self.precision = Precision(recipe.precision, self.device)
        check_live(
            recipe,
            live_values(self.optimizer, self.schedule, self.loss, self.batches, self.ema),
        )
        self.ready = self._wrap()
        self.best: float | None = None
        self.best_epoch = 0

    @property
    def ranks(self) -> bool:
        return self.machine.world > 1

    def _wrap(self) -> nn.Module:
        """The network as steps call it: compiled where asked, in DDP on several ranks."""
        network: Any = torch.compile(self.network) if self.recipe.compile else self.network
        if not self.ranks:
            return network
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=device_ids)

    def fit(self, report: Report) -> None:
        """Train to the last epoch, or from the newest checkpoint on.

        Raises:
            TrialError: the loss is not finite.
        """
        done, metrics = self.resume()
        if metrics.get("finished"):
            report(metrics)
            return
        for epoch in range(done + 1, self.recipe.epochs + 1):
            metrics = {
                "epoch": epoch,
                "began": time.time(),
                "build_s": self.build_seconds,
                "parameters": self.parameters,
            }
            metrics |= self.train_epoch(epoch)
            metrics |= self.validate()
            metrics |= self.close_epoch(metrics)
            report(metrics)
            if metrics["finished"]:
                return

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Run the training batches of one epoch, and return its mean losses and times."""
        self.network.train()
        self.batches.set_epoch(epoch)
        clock, sums, images = Clock(), torch.zeros(3, device=self.device), 0
        for batch in clock.waiting_for(self.batches):
            sums += self.step(*batch) * len(batch[0])
            images += len(batch[0])
        sums = self.all_reduced(torch.cat([sums, sums.new_tensor([images])]))
        seconds = clock.working()
        total, semantic, boundary = (sums[:3] / sums[3]).tolist()
        if not torch.isfinite(sums).all():
            raise TrialError(
                f"epoch {epoch}: the loss is not finite; lower learning_rate, or set precision: "
                "float32"
            )
        return {
            "loss": total,
            "loss_semantic": semantic,
            "loss_boundary": boundary,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": sums[3].item() / (seconds + clock.waited),
            "train_seconds": seconds,
            "data_seconds": clock.waited,
            "data_wait_share": clock.waited / (seconds + clock.waited),
        }

    def step(self, images: Tensor, masks: Tensor) -> Tensor:
        """Take one optimizer step on this rank's share of a batch; return the mean losses (3,)."""
        images, masks = self.to_device(images), masks.to(self.device, non_blocking=True).long()
        count = images.new_tensor([len(images)], dtype=torch.float32)
        share = self.machine.world * len(images) / self.all_reduced(count) if self.ranks else 1.0
        self.optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(3, device=self.device)
        for part, last in self.micro_batches(images, masks):
            weight = share * len(part[0]) / len(images)
            with nullcontext() if last or not self.ranks else self.ready.no_sync():  # type: ignore[operator]
                with self.precision.autocast():
                    values = self.loss(self.ready(part[0]), part[1])
                self.precision.scale(values.total * weight).backward()
            losses += torch.stack([v.detach().float() for v in values]) * len(part[0]) / len(images)
        self.precision.step(self.optimizer, self.network, self.recipe.clip_norm)
        self.schedule.step()
        if self.ema:
            self.ema.update(self.network)
        return losses

    def micro_batches(self, images: Tensor, masks: Tensor) -> Iterator[tuple[Any, bool]]:
        """Yield the parts of a share, equally many on every rank, and which is the last."""
        count = self.recipe.accumulation
        parts = list(zip(images.tensor_split(count), masks.tensor_split(count), strict=True))
        for number, part in enumerate(parts, start=1):
            yield part, number == len(parts)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Measure the network (its EMA where there is one) on whole images at native size."""
        network = self.ema.module if self.ema else self.network
        network.eval()
        metrics = SegmentationMetrics(self.task, self.device)
        self.probe = Probe(self.data)
        clock, sums = Clock(), torch.zeros(2, device=self.device)
        for batch in clock.waiting_for(self.validation):
            with self.precision.autocast():
                output = network(self.to_device(batch.images))
                values = self.loss(output, batch.small_masks(output.semantic.shape, self.device))
            sums += torch.stack(
                [values.total.float() * len(batch), values.total.new_tensor(len(batch))]
            )
            for index, logits, mask in batch.native(output.semantic):
                predicted = logits.argmax(1)[0]
                metrics.update(predicted, mask.to(self.device))
                self.probe.keep(index, predicted)
        sums = self.all_reduced(sums)
        return {
            **metrics.compute(),
            "val_loss": (sums[0] / sums[1]).item(),
            "validation_seconds": clock.working(),
            "validation_data_seconds": clock.waited,
        }

    def close_epoch(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Judge an epoch, write its checkpoints and its line of the history."""
        epoch, value = metrics["epoch"], metrics.get(self.objective.metric, math.nan)
        self.schedule.epoch(value if self.objective.mode == "max" else -value)
        improved = self.objective.better(value, self.best)
        if improved:
            self.best, self.best_epoch = value, epoch
        patience = self.recipe.early_stopping
        finished = ""
        if epoch == self.recipe.epochs:
            finished = "max epochs"
        elif patience and epoch - self.best_epoch >= patience:
            finished = "early stopping"
        verdict = {
            "gap": metrics["val_loss"] - metrics["loss"],
            "peak_memory_mb": peak_memory_mb(self.device),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "finished": finished,
            "time": time.time(),
        }
        if self.machine.rank == 0:
            self.write({**metrics, **verdict}, improved)
        return verdict

    def write(self, metrics: dict[str, Any], improved: bool) -> None:
        """Rank 0 writes the line first: an epoch that is then repeated replaces its own line."""
        append_epoch(self.folder, metrics)
        if improved:
            weights = (self.ema.module if self.ema else self.network).state_dict()
            checkpoint.save(
                self.folder / "best", metrics["epoch"], weights, metrics=metrics, keep=1
            )
            self.probe.save(self.folder)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.precision.state_dict(),
            "ema": self.ema.state_dict() if self.ema else {},
            "best": self.best,
            "best_epoch": self.best_epoch,
        }
        last = self.folder / "last"
        checkpoint.save(last, metrics["epoch"], self.network.state_dict(), state, metrics)

    def resume(self) -> tuple[int, dict[str, Any]]:
        """Load the newest checkpoint; return its epoch (0: none) and that epoch's metrics."""
        found = checkpoint.load(self.folder / "last")
        if self.ranks:  # Every rank goes on from the newest epoch that all of them can read.
            newest = torch.tensor([found.epoch if found else 0], device=self.device)
            dist.all_reduce(newest, op=dist.ReduceOp.MIN)
            if found and found.epoch != int(newest):
                found = checkpoint.load(self.folder / "last", at_most=int(newest))
        if self.machine.rank == 0:
            forget_after(self.folder, found.epoch if found else 0)
        if found is None:
            return 0, {}
        self.network.load_state_dict(found.weights)
        self.optimizer.load_state_dict(found.state["optimizer"])
        self.schedule.load_state_dict(found.state["schedule"])
        self.precision.load_state_dict(found.state["scaler"])
        if self.ema:
            self.ema.load_state_dict(found.state["ema"])
        self.best, self.best_epoch = found.state["best"], found.state["best_epoch"]
        return found.epoch, found.metrics

    def to_device(self, images: Tensor) -> Tensor:
        """Bring uint8 images (N, C, H, W) to the device and to the numbers the encoder expects."""
        images = images.to(self.device, non_blocking=True)
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        normalised: Tensor = self.normalise(images)
        return normalised

    def all_reduced(self, values: Tensor) -> Tensor:
        if self.ranks:
            dist.all_reduce(values)
        return values
