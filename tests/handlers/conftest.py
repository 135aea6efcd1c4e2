"""An engine as small as can be that looks like the trainer to handlers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from mtmed.losses import ConstantWeighting
from mtmed.metrics import MeanDice

SIZE = (8, 10, 6)


class SmallTrainer(Engine):
    """Fits a line; the samples of a step depend on the step alone."""

    def __init__(self, *, epochs: int = 3, epoch_length: int = 2, handlers: Any = (), total: int | None = None) -> None:
        torch.manual_seed(0)
        self.multi_task_model = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.AdamW(self.multi_task_model.parameters(), lr=0.1)
        total = total or epochs * epoch_length
        self.lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=total)
        self.weighting = ConstantWeighting(weights={"fit": 1.0, "size": 0.5})
        self.scaler = None
        super().__init__(self.one_step)
        self.state.max_epochs, self.state.epoch_length = epochs, epoch_length
        self.epochs, self.epoch_length, self.given = epochs, epoch_length, handlers

    def one_step(self, engine: Engine, batch: Any) -> dict[str, Any]:
        step = engine.state.iteration
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4, 3, generator=generator)
        losses = {
            "fit": (self.multi_task_model(x) - x.sum(1, keepdim=True)).square().mean(),
            "size": self.multi_task_model.weight.square().sum(),
        }
        weighted = self.weighting(losses, step)
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.zero_grad()
        weighted.total.backward()
        self.optimizer.step()
        self.lr_scheduler.step()
        return {
            "loss": weighted.total.item(),
            "losses": {name: value.item() for name, value in losses.items()},
            "weights": weighted.weights,
            "learning_rate": rate,
            "outputs": {},
            "views": {},
        }

    def go(self) -> list[dict[str, Any]]:
        """Run to the end; the outputs of all iterations."""
        outputs: list[dict[str, Any]] = []
        self.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
        self.run([0] * self.epoch_length, max_epochs=self.epochs, epoch_length=self.epoch_length)
        return outputs


@pytest.fixture
def small_trainer() -> type[SmallTrainer]:
    return SmallTrainer


class Threshold(torch.nn.Module):
    """Logits of a bright foreground."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], 1)


@pytest.fixture
def make_evaluator() -> Callable[..., SupervisedEvaluator]:
    """Validates two volumes, the first of which is segmented perfectly."""

    def make(*, handlers: Any = None, network: torch.nn.Module | None = None) -> SupervisedEvaluator:
        label = torch.zeros(1, 1, *SIZE, dtype=torch.uint8)
        label[:, :, 2:6, 3:7, 2:4] = 1
        wrong = label.roll(1, 2)
        batches = [{"image": label.float(), "label": label}, {"image": label.float(), "label": wrong}]
        return SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=batches,
            network=network or Threshold(),
            key_val_metric={"mean_dice": MeanDice({0: "background", 1: "organ"})},
            val_handlers=handlers,
            decollate=False,
        )

    return make
