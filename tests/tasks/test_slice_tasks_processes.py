"""Tasks on slices and weighting by gradient similarity, in two processes: the weights of one on the joint batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from slice_batches import make_dense_unet, make_slices, make_unet, part_of
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from mtmed.losses import ConstantWeighting, GradientSimilarityWeighting, RandomWeighting, Weighting
from mtmed.tasks import (
    AdjacentSliceContrast,
    MomentumContrast,
    MultiTaskModel,
    Segmentation,
    SlicePosition,
    StepContext,
    Task,
)

PROCESSES = 2
STEPS = 3
WEIGHTS = {"segmentation": 0.9, "slice_position": 0.3, "contrast": 0.2, "momentum_contrast": 0.2}
AUXILIARY = ("slice_position", "contrast", "momentum_contrast")
CASES = {
    "position, random": (SlicePosition, "random"),
    "position, similarity": (SlicePosition, "similarity"),
    "contrast, constant": (AdjacentSliceContrast, "constant"),
    "contrast, similarity": (AdjacentSliceContrast, "similarity"),
    "momentum contrast, constant": (lambda: MomentumContrast(queue=12, momentum=0.7), "constant"),
}


def make_weighting(kind: str, network: torch.nn.Module) -> Weighting:
    if kind == "constant":
        return ConstantWeighting(weights=WEIGHTS)
    if kind == "random":
        return RandomWeighting(weights=WEIGHTS, auxiliary=AUXILIARY, seed=3)
    return GradientSimilarityWeighting(weights=WEIGHTS, auxiliary=AUXILIARY, parameters=network.parameters())


def trained(case: str, samples: slice) -> dict[str, Any]:
    """State, weights in force and outputs after some steps on these samples of the joint batch."""
    make_task, kind = CASES[case]
    network = make_dense_unet() if "contrast" in case else make_unet()
    torch.manual_seed(1)
    tasks: dict[str, Task] = {
        "segmentation": Segmentation(loss=DiceCELoss(to_onehot_y=True, softmax=True, batch=False))
    }
    tasks["auxiliary"] = make_task()
    model = MultiTaskModel(network=network, tasks=tasks).double()
    wrapped: Any = DistributedDataParallel(model) if dist.is_initialized() else model
    weighting = make_weighting(kind, network)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    weights, outputs = [], {}
    for step in range(STEPS):
        view = part_of(make_slices(step, dtype=torch.float64), samples)
        context = StepContext(seed=0, step=step, positions=tuple(range(8))[samples])
        losses, outputs = wrapped({"patch": view}, context)
        # as in a float16 run, where the gradients of the scaled loss are scaled down again
        weighted = weighting(losses, step)
        optimizer.zero_grad()
        (1024 * weighted.total).backward()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= 1024
        optimizer.step()
        model.after_step(step)
        weights.append(weighted.weights)
    return {"state": model.state_dict(), "weights": weights, "outputs": outputs}


def work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=process, world_size=PROCESSES)
    results = {case: trained(case, slice(4 * process, 4 * process + 4)) for case in CASES}
    torch.save(results, Path(folder) / f"{process}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{process}.pt", weights_only=True) for process in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_on_the_joint_batch(processes: list[dict[str, Any]], case: str) -> None:
    joint = trained(case, slice(None))
    for part in processes:
        torch.testing.assert_close(part[case]["state"], joint["state"])
        torch.testing.assert_close(part[case]["outputs"], joint["outputs"])
        for found, expected in zip(part[case]["weights"], joint["weights"], strict=True):
            assert found == pytest.approx(expected)
    if "constant" not in case:
        assert len({tuple(weights.values()) for weights in joint["weights"]}) > 1
