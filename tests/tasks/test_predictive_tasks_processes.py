"""Jigsaw, rotation, VICReg and symmetric momentum contrast in two processes: the weights of one on the joint batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from slice_batches import make_unet, part_of
from torch import Tensor, multiprocessing
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mtmed.losses import VICRegLoss
from mtmed.tasks import Jigsaw, MomentumContrast, MultiTaskModel, Rotation, StepContext, VICReg

PROCESSES = 2
STEPS = 3
CASES = {
    "jigsaw": lambda: Jigsaw(features=4, hidden=8),
    "rotation": lambda: Rotation(hidden=8),
    "vicreg": lambda: VICReg(features=6, hidden=8),
    "momentum_contrast": lambda: MomentumContrast(
        query="auxiliary", key="partner", symmetric=True, queue=20, momentum=0.7, features=6
    ),
}


def make_views(step: int, samples: slice) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return {
        name: part_of(
            {
                "image": torch.rand(8, 1, 32, 32, generator=generator, dtype=torch.float64),
                "volume": torch.arange(8) + step,
            },
            samples,
        )
        for name in ("auxiliary", "partner")
    }


def trained(case: str, samples: slice) -> dict[str, Any]:
    """State and outputs after some steps on these samples of the joint batch."""
    network = make_unet()
    torch.manual_seed(1)
    model = MultiTaskModel(network=network, tasks={"auxiliary": CASES[case]()}).double()
    wrapped: Any = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    outputs: dict[str, Tensor] = {}
    for step in range(STEPS):
        context = StepContext(seed=0, step=step, positions=tuple(range(8))[samples])
        losses, outputs = wrapped(make_views(step, samples), context)
        optimizer.zero_grad()
        losses[case].backward()
        optimizer.step()
        model.after_step(step)
    return {"state": model.state_dict(), "outputs": outputs}


def vicreg_gradient(samples: slice) -> dict[str, Tensor]:
    """Loss and gradients of embeddings; the parts of the processes may differ in length."""
    torch.manual_seed(0)
    a, b = (torch.randn(5, 3, dtype=torch.float64)[samples].clone().requires_grad_() for _ in range(2))
    loss = VICRegLoss()(a, b)
    loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    return {"loss": loss.detach(), "a": a.grad, "b": b.grad}


def work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=process, world_size=PROCESSES)
    results: dict[str, Any] = {case: trained(case, slice(4 * process, 4 * process + 4)) for case in CASES}
    results["uneven"] = vicreg_gradient(slice(0, 1) if process == 0 else slice(1, 5))
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


def test_vicreg_of_uneven_processes_has_the_value_and_gradients_of_the_joint_batch(
    processes: list[dict[str, Any]],
) -> None:
    joint = vicreg_gradient(slice(None))
    for part in processes:
        torch.testing.assert_close(part["uneven"]["loss"], joint["loss"])
    for name in ("a", "b"):
        # what reaches the embeddings is the gradient of the sum of both processes' equal losses
        found = torch.cat([part["uneven"][name] for part in processes]) / PROCESSES
        torch.testing.assert_close(found, joint[name])
