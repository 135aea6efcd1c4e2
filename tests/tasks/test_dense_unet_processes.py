"""The dense U-Net in two processes: no unused parameters, and the weights of one process on the joint batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from mtmed.networks import DenseUNet
from mtmed.tasks import MultiTaskModel, Reconstruction, Segmentation, StepContext, Task, TaskOutput

PROCESSES = 2
STEPS = 3


class Pooled(Task):
    """Stands for a proxy task: reads the coarsest feature map only."""

    def __init__(self) -> None:
        super().__init__(views=("patch",), needs="encoded", levels=(-1,))

    def forward(self, features: Any, views: Any, context: StepContext) -> TaskOutput:
        return TaskOutput({"pooled": features["patch"].encoded[-1].flatten(2).mean(2).square().mean()})


def trained(case: str, samples: slice) -> dict[str, torch.Tensor]:
    """Parameters after some steps on these samples of the joint batch."""
    torch.manual_seed(0)
    pretraining = case == "pre-training"
    network = DenseUNet(
        in_channels=1, out_channels=2, block_layers=(1, 2, 1, 1), recompute=case == "segmentation, recomputed"
    )
    tasks: dict[str, Task] = {"pooled": Pooled()}
    if not pretraining:
        loss = DiceCELoss(to_onehot_y=True, softmax=True)
        tasks = {"segmentation": Segmentation(loss=loss), "r": Reconstruction(views=["patch"], branch="coarsest")}
    model = MultiTaskModel(network=network, tasks=tasks)
    image = torch.rand(PROCESSES, 1, 20, 16, 16, generator=torch.Generator().manual_seed(1))
    image = image[samples]
    views = {"patch": {"image": image, "clean": image, "label": (image > 0.5).byte()}}
    wrapped: Any = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(STEPS):
        losses, _ = wrapped(views, StepContext(seed=0, step=step, positions=(0,)))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


CASES = ("pre-training", "segmentation", "segmentation, recomputed")


def work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=process, world_size=PROCESSES)
    torch.save({case: trained(case, slice(process, process + 1)) for case in CASES}, Path(folder) / f"{process}.pt")
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
        torch.testing.assert_close(part[case], joint, rtol=1e-4, atol=1e-6)
    torch.manual_seed(0)
    fresh = dict(DenseUNet(in_channels=1, out_channels=2, block_layers=(1, 2, 1, 1)).named_parameters())
    moved = {n for n, p in fresh.items() if not torch.equal(p, joint[f"network.{n}"])}
    assert {n for n in fresh if n.startswith("blocks.")} <= moved
    assert any(n.startswith("decoder_blocks.") for n in moved) == (case != "pre-training")
