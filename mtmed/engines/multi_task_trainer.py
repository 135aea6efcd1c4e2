"""The one trainer: batch, views, model, weighting, optimiser."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtmed.distributed import all_reduce_sum, rank, world_size
from mtmed.engines.batch_cases import case_names
from mtmed.engines.precision import Precision, choose_precision, keep_thin_maps_in_float32
from mtmed.errors import InputError
from mtmed.losses.weighting import Weighting
from mtmed.randomness import stream_key
from mtmed.tasks import MultiTaskModel, StepContext
from mtmed.transforms.views import ViewMaker

__all__ = ["MultiTaskTrainer", "batch_roles"]

_PRIMARY_ROLE = "patch"
_LOWEST_SCALE = 2.0**-16  # of the loss in float16: torch begins at 2**16 and halves it at each overflow


def batch_roles(batch: Mapping[str, Any], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Split a batch into its roles and move them to the device.

    The labelled source lies flat in the batch, where MONAI's handlers look for ``image`` and ``label``; the others
    nest. A batch for pre-training may have none.

    Args:
        batch: what the loader gives.
        device: where the tensors go.

    Returns:
        ``{"patch": {"image": ..., "label": ...}, "auxiliary": {...}, ...}``.
    """

    def move(part: Mapping[str, Any]) -> dict[str, Tensor]:
        return {
            key: value.to(device, non_blocking=True)
            for key, value in part.items()
            if isinstance(value, Tensor) and key != "positions"
        }

    nested = {name: move(part) for name, part in batch.items() if isinstance(part, Mapping)}
    primary = move(batch)
    return {_PRIMARY_ROLE: primary, **nested} if primary else nested


class MultiTaskTrainer(Trainer):
    """Trains a network on several tasks, as an Ignite engine to which MONAI's and Ignite's handlers attach.

    After an iteration ``state.output`` holds ``loss`` (the total), ``losses`` and ``weights`` by name, all as numbers
    of the joint batch over all processes, ``learning_rate``, ``outputs`` of the tasks, and, when pictures are due, the
    ``views``.

    Every random choice is a function of the seed, the step and the position in the global batch, so a resumed run
    repeats an uninterrupted one.

    The first loss or gradient that is not finite ends the run with an `InputError` that names the iteration and its
    cases, in all processes. A loss is seen before the optimiser steps. A gradient is looked at with the next loss, or
    at the end of the epoch, so that the device need not wait: then the weights in memory are spoiled, but have not been
    written. With float16 gradients may overflow, which the scaler answers by leaving out the step; the run ends when
    its scale has become so small that no step succeeds.

    Args:
        device: where to train.
        max_epochs: length of the run in epochs.
        epoch_length: iterations per epoch; an epoch is the interval of validation, log lines and checkpoints.
        train_data_loader: batches, see `mtmed.data.crop_loader`.
        model: `MultiTaskModel`, bare or wrapped in ``DistributedDataParallel``.
        optimizer: over the parameters of model and weighting that need a gradient.
        weighting: from named losses to one.
        views: from roles to named views.
        seed: seed of the run.
        precision: see `choose_precision`.
        picture_interval: epochs between pictures; 0 for none.
        max_gradient_norm: gradients are scaled down to this norm; None for no limit.
        train_handlers: Ignite handlers.
    """

    def __init__(
        self,
        *,
        device: str | torch.device,
        max_epochs: int,
        epoch_length: int,
        train_data_loader: Iterable[Mapping[str, Any]],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weighting: Weighting,
        views: ViewMaker,
        seed: int = 0,
        precision: Precision = "auto",
        picture_interval: int = 1,
        max_gradient_norm: float | None = None,
        train_handlers: Sequence[Any] | None = None,
    ) -> None:
        for name, value in (("max_epochs", max_epochs), ("epoch_length", epoch_length)):
            if not isinstance(value, int) or value < 1:
                raise InputError(name, f"is {value!r}", "give a whole number of 1 or more")
        self.model = model
        self.optimizer = optimizer
        self.weighting = weighting
        self.views = views
        self.seed = seed
        self.dtype = choose_precision(precision, torch.device(device))
        if self.dtype == torch.bfloat16 and torch.device(device).type == "cpu":
            keep_thin_maps_in_float32(model)
        self.picture_interval = picture_interval
        self.max_gradient_norm = max_gradient_norm
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            epoch_length=epoch_length,
            data_loader=train_data_loader,
            handlers=train_handlers,
            decollate=False,
        )
        # Ignite's lines on epochs and resuming repeat those of mtmed's handlers
        self.logger.setLevel(logging.WARNING)
        self.scaler = torch.amp.GradScaler("cuda") if self.dtype == torch.float16 else None
        self._unseen_gradient: tuple[Tensor, int, list[str]] | None = None
        self.add_event_handler(Events.STARTED, self._forget_gradient)
        self.add_event_handler(Events.EPOCH_STARTED, self._start_loader_at_step)

    def run(self) -> None:
        """Train; a run that was loaded from a checkpoint goes on."""
        # MONAI's `Trainer.run` would put its own scaler, or none, in the place of this one
        super(Trainer, self).run()

    @property
    def multi_task_model(self) -> MultiTaskModel:
        """The model without its distributed wrapper."""
        model = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        assert isinstance(model, MultiTaskModel)
        return model

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.multi_task_model.network

    def _forget_gradient(self) -> None:
        self._unseen_gradient = None

    def _start_loader_at_step(self) -> None:
        sampler = getattr(self.data_loader, "batch_sampler", None)
        if sampler is not None and hasattr(sampler, "start_step"):
            sampler.start_step = self.state.iteration

    def _pictures_due(self) -> bool:
        last_of_epoch = self.state.iteration % self.state.epoch_length == 0
        return bool(self.picture_interval) and last_of_epoch and self.state.epoch % self.picture_interval == 0

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        step = self.state.iteration - 1
        context = StepContext(
            seed=self.seed,
            step=step,
            positions=tuple(batchdata["positions"].tolist()),
            pictures=self._pictures_due(),
        )
        # dropout is the one thing that draws from the global generator
        device: torch.device = self.state.device
        _seed_global_generator(stream_key(self.seed, step, rank(), "network") >> 1, device)
        roles = batch_roles(batchdata, device)
        views = self.views(roles, seed=self.seed, step=step, positions=context.positions)
        if not (self.model.training and self.network.training):  # walking through all modules takes a millisecond
            self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            losses, outputs = self.model(views, context)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        weighted = self.weighting(losses, step)
        before = self._unseen_gradient
        norms = [] if before is None else [before[0]]
        total, *values = _over_processes([weighted.total, *losses.values(), *norms])
        if before is not None:
            self._require_finite_gradient(values.pop())
        if not math.isfinite(total):
            raise self._not_finite(losses, batchdata)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        norm = self._optimise(weighted.total)
        if norm is not None:
            self._unseen_gradient = norm, self.state.iteration, case_names(self.data_loader, batchdata)
        if self.state.iteration % self.state.epoch_length == 0:
            self._end_of_epoch_checks()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        self.multi_task_model.after_step(step)
        return {
            "loss": total,
            "losses": dict(zip(losses, values, strict=True)),
            "weights": weighted.weights,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "outputs": outputs,
            "views": views if context.pictures else {},
        }

    def _not_finite(self, losses: Mapping[str, Tensor], batchdata: Mapping[str, Any]) -> InputError:
        values = {name: value.item() for name, value in losses.items()}
        text = ", ".join(f"{name} {value:g}" for name, value in values.items())
        if all(map(math.isfinite, values.values())):
            text += " here, in another process not"
        return InputError(
            f"iteration {self.state.iteration}",
            f"the loss is not finite ({text}) for {', '.join(case_names(self.data_loader, batchdata))}",
            "check these cases, lower the learning rate or train in float32",
        )

    def _require_finite_gradient(self, norm: float) -> None:
        assert self._unseen_gradient is not None
        _, iteration, cases = self._unseen_gradient
        self._unseen_gradient = None
        if not math.isfinite(norm):
            raise InputError(
                f"iteration {iteration}",
                f"the gradient is not finite (norm {norm:g}) for {', '.join(cases)}",
                "check these cases, lower the learning rate or train in float32",
            )

    def _end_of_epoch_checks(self) -> None:
        if self._unseen_gradient is not None:
            self._require_finite_gradient(_over_processes([self._unseen_gradient[0]])[0])
        if self.scaler is not None and self.scaler.get_scale() < _LOWEST_SCALE:
            problem = f"the loss scale of float16 fell to {self.scaler.get_scale():g}: no gradient is finite"
            raise InputError(f"iteration {self.state.iteration}", problem, "train with --precision float32")

    def _optimise(self, total: Tensor) -> Tensor | None:
        """Step, and give the norm of the gradient if it has to be finite."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.scaler is None:
            total.backward()  # type: ignore[no-untyped-call]
            if self.max_gradient_norm is not None:
                norm = nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
            else:
                norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            self.optimizer.step()
            return norm
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if self.max_gradient_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return None


def _seed_global_generator(seed: int, device: torch.device) -> None:
    """As ``torch.manual_seed``, which also looks for every other kind of device at each call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


@torch.no_grad()
def _over_processes(losses: Sequence[Tensor]) -> list[float]:
    """Mean over processes: what one process would see on the joint batch."""
    stacked = torch.stack([loss.detach().float() for loss in losses])
    values: list[float] = (all_reduce_sum(stacked) / world_size()).tolist()
    return values
