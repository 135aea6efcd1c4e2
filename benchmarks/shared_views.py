"""A training step of k tasks on one view, encoded and decoded once, against a forward pass for each task.

    OMP_NUM_THREADS=1 python benchmarks/shared_views.py

The tasks are segmentation, inner distance, contour, outer distance and reconstruction from the coarsest map; k takes
the first of them. Both sides have the same weights, views and heads, and do the whole step: losses, one backward pass
of their sum, Adam. Apart is what a trainer does that asks each task for itself. Agreement: the largest relative
difference of a loss, and of all gradients (norm of the difference by the norm); the exit status is 1 if they differ.
``--quick`` takes small views, which shows that it works but not the ratios.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from monai.losses import DiceLoss
from timing import agreement, compare, exit_status, machine, print_table, ratio, seconds_text, spread_text
from torch import Tensor, nn

from mtmed.networks import build_network
from mtmed.organ_masks import pack_masks
from mtmed.tasks import (
    Contour,
    DistanceMap,
    MultiTaskModel,
    Reconstruction,
    Segmentation,
    StepContext,
    Task,
    View,
    ViewFeatures,
)

VIEW = "auxiliary"
CONTEXT = StepContext(seed=0, step=0, positions=(0, 1, 2, 3))
NETWORKS: dict[str, dict[str, Any]] = {
    "2D U-Net": {"_target_": "mtmed.networks.SmallUNet", "base_channels": 16, "depth": 4},
    "3D U-Net": {"_target_": "mtmed.networks.UNet", "features": [16, 16, 32, 64, 128, 16], "spatial_dims": 3},
}
COUNTS = (1, 2, 3, 5)


def make_tasks(count: int) -> dict[str, Task]:
    """The first tasks, on one view."""
    tasks: dict[str, Task] = {
        "segmentation": Segmentation(loss=DiceLoss(sigmoid=True), view=VIEW, overlapping=True),
        "inner_distance": DistanceMap(view=VIEW, side="inner"),
        "contour": Contour(view=VIEW),
        "outer_distance": DistanceMap(view=VIEW, side="outer"),
        "reconstruction": Reconstruction(views=[VIEW], branch="coarsest"),
    }
    return dict(list(tasks.items())[:count])


def make_model(network: str, count: int) -> MultiTaskModel:
    """The same network and heads for the same arguments."""
    torch.manual_seed(0)
    definition = {**NETWORKS[network], "in_channels": 1, "out_channels": 1}
    return MultiTaskModel(network=build_network(definition), tasks=make_tasks(count)).train()


def make_view(size: tuple[int, ...], batch: int) -> dict[str, Tensor]:
    """Noise in which one ball per image is brighter."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    centres = torch.rand(batch, len(size), generator=generator) - 0.5
    distance = torch.stack([sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) for centre in centres])
    masks = (distance < 0.2)[:, None]
    image = masks + torch.randn(masks.shape, generator=generator)
    return {"image": image, "clean": image, "label": pack_masks(masks, axis=1)}


def losses_together(model: MultiTaskModel, view: View) -> dict[str, Tensor]:
    return model({VIEW: view}, CONTEXT)[0]


def losses_apart(model: MultiTaskModel, view: View) -> dict[str, Tensor]:
    """One pass of the network for each task, as far as the task needs it."""
    network: Any = model.network
    losses: dict[str, Tensor] = {}
    for task in model.tasks.values():
        encoded = network.encode(view["image"])
        decoded = network.decode(encoded) if task.needs != "encoded" else None
        logits = network.head(decoded) if task.needs == "logits" else None
        losses |= task({VIEW: ViewFeatures(encoded, decoded, logits)}, {VIEW: view}, CONTEXT).losses
    return losses


Losses = Callable[[MultiTaskModel, View], dict[str, Tensor]]


def gradients_of(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def differences(network: str, count: int, view: View) -> str:
    """Cell of the agreement of losses and gradients."""
    found = {}
    for side, losses_of in (("together", losses_together), ("apart", losses_apart)):
        model = make_model(network, count)
        losses = losses_of(model, view)
        torch.stack(list(losses.values())).sum().backward()
        found[side] = ({name: float(loss.detach()) for name, loss in losses.items()}, gradients_of(model))
    (ours, gradient), (theirs, other) = found["together"], found["apart"]
    losses_differ = max(abs(ours[name] / theirs[name] - 1) for name in theirs)
    gradients_differ = float((gradient - other).norm() / other.norm())
    return f"{agreement(losses_differ, 1e-5, 'losses')}; {agreement(gradients_differ, 1e-3, 'gradients')}"


def stepper(network: str, count: int, view: View, losses_of: Losses) -> Callable[[], float]:
    model = make_model(network, count)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = torch.stack(list(losses_of(model, view).values())).sum()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def measure(network: str, size: tuple[int, ...], batch: int, rounds: int) -> None:
    view, table = make_view(size, batch), []
    for count in COUNTS:
        steps = {
            "apart": stepper(network, count, view, losses_apart),
            "together": stepper(network, count, view, losses_together),
        }
        seconds = compare(steps, rounds=rounds)
        gain = spread_text(ratio(seconds["apart"], seconds["together"]))
        same = differences(network, count, view)
        table.append((str(count), seconds_text(seconds["apart"]), seconds_text(seconds["together"]), gain, same))
    shape = " x ".join(map(str, size))
    title = f"{network}, {batch} views of {shape}, {torch.get_num_threads()} threads; {machine()}"
    print_table(title, ["tasks", "a pass for each task", "one pass", "ratio", "agreement"], table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, in alternating order")
    parser.add_argument("--quick", action="store_true", help="small views, one round")
    options = parser.parse_args()
    sides, rounds = ((32, 32), 1) if options.quick else ((128, 48), options.rounds)
    measure("2D U-Net", (sides[0],) * 2, 4, rounds)
    measure("3D U-Net", (sides[1],) * 3, 1, rounds)
    return exit_status()


if __name__ == "__main__":
    sys.exit(main())
