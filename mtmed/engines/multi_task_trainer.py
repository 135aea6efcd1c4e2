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
from mtmed.engines.precision import Precision, choose_precision, keep_thin_maps_in_float32
from mtmed.errors import InputError
from mtmed.losses.weighting import Weighting
from mtmed.randomness import stream_key
from mtmed.tasks import MultiTaskModel, StepContext
from mtmed.transforms.views import ViewMaker

__all__ = ["MultiTaskTrainer", "batch_roles"]

_PRIMARY_ROLE = "patch"


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
        self.add_event_handler(Events.EPOCH_STARTED, self._start_loader_at_step)

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
        total, *values = _over_processes([weighted.total, *losses.values()])
        if not math.isfinite(total):
            raise self._not_finite(losses, batchdata)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        self._optimise(weighted.total)
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
            f"the loss is not finite ({text}) for {', '.join(_case_names(self.data_loader, batchdata))}",
            "check these cases, lower the learning rate or train in float32",
        )

    def _optimise(self, total: Tensor) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.scaler is None:
            total.backward()  # type: ignore[no-untyped-call]
            if self.max_gradient_norm is not None:
                nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
            self.optimizer.step()
            return
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if self.max_gradient_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()


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


def _case_names(loader: Any, batchdata: Mapping[str, Any]) -> list[str]:
    """Key of each case of a batch, or its number where the loader does not know the cases."""
    parts = [batchdata, *(part for part in batchdata.values() if isinstance(part, Mapping))]
    numbers = dict.fromkeys(number for part in parts if "volume" in part for number in part["volume"].tolist())
    while hasattr(loader, "dataset"):
        loader = loader.dataset
    volumes = getattr(loader, "volumes", None)
    return [f"case {number}" if volumes is None else volumes[number].case.key for number in numbers]
