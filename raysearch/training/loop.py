"""The training of one trial: the same loop for every network, launcher and number of ranks.

It knows nothing of Ray or MLflow. `fit` takes a recipe, what the machine gives, and a function to
report each epoch to; everything that must survive a kill is in the trial's folder.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysearch.config import Objective, Recipe, Task
from raysearch.data import Batch, Data, training_batches, validation_batches
from raysearch.errors import ConfigError, TrialError
from raysearch.models import Output, build, encoder_of
from raysearch.models.batch_norm import synchronise
from raysearch.training.clock import Clock, shared_clock
from raysearch.training.device import Precision, find_device, peak_memory_mb, prepare
from raysearch.training.distillation import Distillation
from raysearch.training.fitting import fitted_parts
from raysearch.training.keeping import keep_epoch, keep_unfinished, resume
from raysearch.training.live import HasLiveValues, check_live, live_values
from raysearch.training.losses import LossValues, build_loss
from raysearch.training.machine import Machine, Sources
from raysearch.training.memory import inject
from raysearch.training.metrics import build_metrics
from raysearch.training.mixing import Mixed, Mixing
from raysearch.training.normalisation import Normalisation, statistics
from raysearch.training.optimisation import Ema, build_optimizer, build_schedule, frozen_epochs
from raysearch.training.probe import Probe
from raysearch.training.recompute import recompute_activations
from raysearch.training.trained import load_trained
from raysearch.training.unfinished import Preempted, Unfinished
from raysearch.training.warm_start import start_from

Report = Callable[[dict[str, Any]], None]


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
        machine: Machine | None = None,
        sources: Sources | None = None,
    ) -> None:
        self.recipe, self.task, self.data, self.objective = recipe, task, data, objective
        machine, sources = machine or Machine(), sources or Sources()
        self.spec, self.folder, self.machine = spec, folder, machine
        self.device = machine.device or find_device()
        folder.mkdir(parents=True, exist_ok=True)
        self.now = shared_clock(folder)
        prepare(recipe.seed, machine.threads, self.device)
        self.network = self._build(sources.init)
        frequency = torch.from_numpy(data.class_frequency)
        self.loss = build_loss(recipe, task, frequency).to(self.device)
        self.mixing = Mixing(recipe, task)
        self.distillation = self._distillation(sources.teachers)
        self.normalise = Normalisation(*statistics(data)).to(self.device)
        self.optimizer = build_optimizer(recipe, self.network)
        pinned = self.device.type == "cuda"
        self.loading = (machine.rank, machine.world, machine.loader_workers, pinned)
        self.batches = training_batches(data, recipe, task, *self.loading)
        self.validation = validation_batches(data, recipe, *self.loading)
        self.schedule = build_schedule(recipe, self.optimizer, len(self.batches))
        self.ema = Ema(self.network, recipe.ema_decay) if recipe.ema_decay else None
        if recipe.gradient_checkpointing and not recompute_activations(self.network):
            raise ConfigError(
                f"gradient_checkpointing: {recipe.architecture} has no blocks to recompute; set it "
                "to false for this network"
            )
        self.precision = Precision(recipe.precision, self.device)
        check_live(recipe, self.live_values())
        self.frozen: list[nn.Parameter] = []
        self.ready = self._wrap()
        self.best: float | None = None
        self.best_epoch = 0
        self.parts = recipe.accumulation
        self.begun = self.trained = Unfinished()
        self.going: bool | Tensor = False
        self.epoch = 0
        self.told: dict[str, Any] = {}

    def live_values(self) -> dict[str, Any]:
        """Read back what every part works with now, by the names of the recipe."""
        parts: list[HasLiveValues] = [self.loss, self.batches, self.mixing]
        parts += [self.distillation] if self.distillation else []
        return live_values(self.optimizer, self.schedule, self.ema, *parts)

    def _build(self, init: Path | None) -> nn.Module:
        clock = Clock()
        network = build(self.spec, self.task)
        if init is not None:
            start_from(network, self.spec, self.task, load_trained(init))
        network = network.to(self.device)
        self.build_seconds = clock.working()
        self.parameters = sum(p.numel() for p in network.parameters())
        if self.recipe.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return synchronise(network, self.device) if self.ranks else network

    def _distillation(self, teachers: tuple[Path, ...]) -> Distillation | None:
        if not teachers:
            return None
        loaded = [load_trained(folder, self.device).logits for folder in teachers]
        recipe = self.recipe
        return Distillation(loaded, recipe.distill_weight, recipe.distill_temperature)

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
            Preempted: the process must go; a checkpoint in the middle of an epoch was written.
        """
        self.fit_memory()
        done, metrics = resume(self)
        self.machine.usage.go_on_from(metrics)
        if done:
            report(metrics)  # Again: who was told may have been lost before writing it down.
        if metrics.get("finished"):
            return
        for epoch in range(done + 1, self.recipe.epochs + 1):
            self.told = metrics
            metrics = {
                "epoch": epoch,
                "began": self.now(),
                "build_s": self.build_seconds,
                "parameters": self.parameters,
            }
            metrics |= self.train_epoch(epoch)
            metrics |= self.validate()
            metrics |= self.close_epoch(metrics)
            report(metrics)
            if metrics["finished"]:
                return

    def fit_memory(self) -> None:
        """Take batches in as many parts as the GPU needs, and validation's as small."""
        self.parts = fitted_parts(self, self.machine.limits)
        if self.parts > self.recipe.accumulation:
            smaller = self.recipe.model_copy(update={"accumulation": self.parts})
            self.validation = validation_batches(self.data, smaller, *self.loading)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Run the training batches of one epoch, and return its mean losses and times."""
        begun, clock = self.begun, Clock()
        self.begin_epoch(epoch, begun.step)
        first = self.machine.rank == 0  # What was summed before stands for all ranks together.
        sums = torch.tensor(begun.sums if first else Unfinished().sums, device=self.device)
        images, rate = begun.images if first else 0.0, begun.rate
        for number, batch in enumerate(clock.waiting_for(self.batches), start=begun.step):
            agreed = self.going
            rate = self.optimizer.param_groups[-1]["lr"]  # The last step's, when all is done.
            sums += self.step(batch, (epoch, number)) * batch.size
            images += batch.size
            # Ranks look at the step before: on a GPU this one's answer is still on its way.
            if bool(agreed if self.ranks else self.going):
                self.break_off(self.come_to(number + 1, sums, images, rate, clock))
        told = self.trained = self.come_to(len(self.batches), sums, images, rate, clock)
        self.begun = Unfinished()
        if not all(map(math.isfinite, told.sums)):
            raise not_finite(f"epoch {epoch}")
        total, semantic, boundary, accuracy = (value / told.images for value in told.sums)
        return {
            "loss": total,
            "loss_semantic": semantic,
            "loss_boundary": boundary,
            "train_accuracy": accuracy,
            "learning_rate": rate,
            "images_per_second": told.images / (told.seconds + told.waited),
            "train_seconds": told.seconds,
            "data_seconds": told.waited,
            "data_wait_share": told.waited / (told.seconds + told.waited),
            "micro_batch": -(-self.recipe.batch_size // (self.machine.world * self.parts)),
            "effective_batch": self.recipe.batch_size,
        }

    def come_to(
        self, step: int, sums: Tensor, images: float, rate: float, clock: Clock
    ) -> Unfinished:
        """Return what an epoch has come to, over all ranks and what was done of it before."""
        reduced = self.all_reduced(torch.cat([sums, sums.new_tensor([images])])).tolist()
        seconds = self.begun.seconds + clock.working()
        return Unfinished(
            step, (*reduced[:4],), reduced[4], rate, seconds, self.begun.waited + clock.waited
        )

    def break_off(self, unfinished: Unfinished) -> None:
        """Write a checkpoint in the middle of an epoch.

        Raises:
            Preempted: always.
        """
        if self.machine.rank == 0:
            keep_unfinished(self, unfinished)
        raise Preempted(
            f"epoch {self.epoch}: broken off after {unfinished.step} steps, to go on later"
        )

    def begin_epoch(self, epoch: int, step: int = 0) -> None:
        """Set the parts to training; in stage one the encoder stands still, norms included."""
        self.epoch = epoch
        still = epoch <= frozen_epochs(self.recipe)
        if still != bool(self.frozen):
            if still:
                self.frozen = [p for p in encoder_of(self.network).parameters() if p.requires_grad]
            for parameter in self.frozen:
                parameter.requires_grad_(not still)
            self.frozen = self.frozen if still else []
            self.ready = self._wrap()  # DDP asks once which parameters it waits for.
        self.network.train()
        if still:
            encoder_of(self.network).eval()
        self.batches.set_epoch(epoch, step)

    def step(self, batch: Batch, place: tuple[int, int] = (0, 0)) -> Tensor:
        """Take one optimizer step on this rank's share of a batch.

        Args:
            place: epoch and number of the batch, which seed what is mixed.

        Returns:
            Mean losses (total, semantic, boundary) and the share of right classes, (4,).
        """
        share = self.share(batch)
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(4, device=self.device)
        for number, (part, last) in enumerate(self.micro_batches(batch)):
            inject(part.size)
            mixed = self.mixed(part, (self.recipe.seed, *place, self.machine.rank, number))
            weight = part.size / batch.size
            with nullcontext() if last or not self.ranks else self.ready.no_sync():  # type: ignore[operator]
                with self.precision.autocast():
                    output = self.ready(self.normalised(mixed.images))
                values = self.compared(output, mixed)
                learned = self.taught(values, output, mixed)
                self.precision.scale(learned.total * share * weight).backward()
            told = [*values, self.accuracy(output.semantic, mixed)]
            sums += torch.stack([value.detach().float() for value in told]) * weight
        self.precision.step(self.optimizer, self.network, self.recipe.clip_norm)
        self.schedule.step()
        if self.ema:
            self.ema.update(self.network)
        return sums

    def share(self, batch: Batch) -> float | Tensor:
        """Return what this rank's part of a batch weighs beside the mean of all ranks.

        In passing the ranks agree whether one of them must go.
        """
        if not self.ranks:
            self.going = self.machine.must_go()
            return 1.0
        told = torch.tensor([batch.size, self.machine.must_go()], dtype=torch.float32)
        images, self.going = self.all_reduced(told.to(self.device)).unbind()
        return self.machine.world * batch.size / images

    def mixed(self, part: Batch, seed: tuple[int, ...]) -> Mixed:
        """Bring a micro-batch to the device, and mix its images where the recipe says so."""
        images = part.images.to(self.device, non_blocking=True).float()
        ids = part.targets.to(self.device, non_blocking=True).long()
        weights = part.weights
        if weights is not None:
            weights = weights.to(self.device, non_blocking=True).float() / 255
        return self.mixing(images, ids, weights, seed)

    def compared(self, output: Output, mixed: Mixed) -> LossValues:
        """Return the loss against every part of a mixed target, by their shares."""
        losses = [(p.share, self.loss(output, p.ids, p.weights)) for p in mixed.parts]
        return LossValues(*(sum(s * v[n] for s, v in losses) for n in range(3)))

    def taught(self, values: LossValues, output: Output, mixed: Mixed) -> LossValues:
        """Return what is learned from: the loss of the labels, blended with the teachers'."""
        if self.distillation is None:
            return values
        ids, ignored = mixed.parts[0].ids, self.task.ignore_index
        for part in mixed.parts:
            if self.task.segments:
                ids = ids.masked_fill(part.ids == ignored, ignored)
            if part.weights is not None:
                ids = ids.masked_fill(part.weights == 0, ignored)
        with self.precision.autocast():
            return self.distillation(values, output.semantic, mixed.images, ids, ignored)

    def accuracy(self, logits: Tensor, mixed: Mixed) -> Tensor:
        """Return the share of pixels or images whose class is right, by the larger part mixed."""
        ids = max(mixed.parts, key=lambda part: part.share).ids
        ids = ids.argmax(1) if ids.is_floating_point() else ids
        counted = ids != self.task.ignore_index if self.task.segments else torch.ones_like(ids)
        # On a CPU, max is several times as fast as argmax.
        right = (logits.max(1).indices == ids) & counted.bool()
        return right.sum() / counted.sum().clamp_min(1)

    def micro_batches(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """Yield the parts of a share, equally many on every rank, and which is the last."""
        parts = batch.tensor_split(self.parts)
        for number, part in enumerate(parts, start=1):
            yield part, number == len(parts)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Measure the network (its EMA where there is one) on whole images at native size."""
        network = self.ema.module if self.ema else self.network
        network.eval()
        self.metrics = build_metrics(self.task, self.device)
        self.probe = Probe(self.data)
        clock, sums = Clock(), torch.zeros(2, device=self.device)
        for batch in clock.waiting_for(self.validation):
            images = batch.images.to(self.device, non_blocking=True)
            with self.precision.autocast():
                output = network(self.normalised(images))
            values = self.loss(output, batch.targets(output.semantic.shape, self.device))
            if not torch.isfinite(values.total):
                raise not_finite("validation")
            sums += torch.stack(
                [values.total.float() * len(batch), values.total.new_tensor(len(batch))]
            )
            for index, logits, target in batch.native(output.semantic):
                self.metrics.update(logits, target.to(self.device))
                self.probe.keep(index, logits)
            if self.machine.must_go() and not self.ranks:
                self.break_off(self.trained)
        sums = self.all_reduced(sums)
        return {
            **self.metrics.compute(),
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
        goal = self.objective.goal
        accuracy_gap = metrics["train_accuracy"] - metrics[self.task.accuracy]
        verdict = {
            "gap": metrics["val_loss"] - metrics["loss"],
            "accuracy_gap": accuracy_gap,
            "reached": goal.reached(metrics) if goal else "",
            "peak_memory_mb": peak_memory_mb(self.device),
            **self.machine.usage.take(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "time": self.now(),
        }
        verdict["finished"] = self.finished(epoch, verdict)
        confusion = self.metrics.total() if improved else None  # All ranks take part in the sum.
        if self.machine.rank == 0:
            keep_epoch(self, {**metrics, **verdict}, confusion)
        return verdict

    def finished(self, epoch: int, verdict: dict[str, Any]) -> str:
        """Return why the trial ends with this epoch, or "" where it goes on."""
        patience, limit = self.recipe.early_stopping, self.recipe.gap_limit
        if epoch >= self.recipe.last_epoch:
            return "max epochs"
        if patience and epoch - self.best_epoch >= patience:
            return "early stopping"
        return "gap limit" if limit and verdict["accuracy_gap"] > limit else ""

    def normalised(self, images: Tensor) -> Tensor:
        """Bring images (N, C, H, W) on the device to the numbers that the network expects."""
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        normalised: Tensor = self.normalise(images)
        return normalised

    def all_reduced(self, values: Tensor) -> Tensor:
        if self.ranks:
            dist.all_reduce(values)
        return values


def not_finite(where: str) -> TrialError:
    return TrialError(
        f"{where}: the loss is not finite; lower learning_rate, or set precision: float32"
    )
