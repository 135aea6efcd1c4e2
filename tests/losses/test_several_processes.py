"""Two processes give the values and gradients of one process on the joint batch, with DDP's mean of gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from mtmed.distributed import all_reduce_sum, gather_with_gradient, rank, world_size
from mtmed.losses import CrossCorrelationLoss, InfoNCELoss, LabelContrastLoss
from mtmed.networks.projector import Projector

FORMS = ("per_anchor", "log_out", "printed")
PROCESSES = 2
# anchors and partners of each process: uneven; none on one process; no positives anywhere on one
SPLITS = {
    "uneven": ((3, 7), (6, 2)),
    "no anchors on the first": ((0, 10), (4, 4)),
    "no anchors and partners on the second": ((10, 0), (8, 0)),
    "only background on the second": ((4, 6), (5, 3)),
}
# group of each pair, on each process: groups of their own; uneven, with a group on both
PAIR_GROUPS = {"apart": ((0, 0, 0), (1, 1, 1)), "uneven": ((0, 0, 2), (2, 2, 1, 0, 2))}


def identity_case(samples: slice) -> dict[str, Any]:
    """Correlation loss of two projected views, as in the identity task."""
    torch.manual_seed(0)
    views = [torch.randn(3, 2, 4, 3, dtype=torch.float64) + 5 for _ in range(2)]
    views = [view[samples].clone().requires_grad_() for view in views]
    projector = Projector(2, spatial_dims=2).double()
    loss = CrossCorrelationLoss()(*(projector(view) for view in views))
    loss.backward()
    return {
        "loss": loss.detach(),
        "inputs": [view.grad for view in views],
        "parameters": [parameter.grad for parameter in projector.parameters()],
        "buffers": [buffer for name, buffer in projector.named_buffers() if "running" in name],
    }


def contrast_case(form: str, name: str, process: int | None) -> dict[str, Any]:
    """Label contrast of vectors that a shared weight matrix made."""
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    vectors, tags = [], []
    for counts in SPLITS[name]:
        values = torch.randn(sum(counts), 3, dtype=torch.float64)
        labels, groups = torch.randint(0, 3, (sum(counts),)), torch.randint(0, 2, (sum(counts),))
        if name == "only background on the second":
            labels[: counts[0]], labels[counts[0] :] = torch.arange(counts[0]) % 3, 0
            groups[:] = 0
        rows = slice(None) if process is None else slice(sum(counts[:process]), sum(counts[: process + 1]))
        vectors.append(values[rows].clone().requires_grad_())
        tags.append((labels[rows], groups[rows]))
    loss = LabelContrastLoss(form=form)(vectors[0] @ weight, *tags[0], vectors[1] @ weight, *tags[1])  # type: ignore[arg-type]
    loss.backward()
    return {"loss": loss.detach(), "inputs": [vector.grad for vector in vectors], "parameters": [weight.grad]}


def pairs_case(name: str, process: int | None) -> dict[str, Any]:
    """InfoNCE of pairs of vectors that a shared weight matrix made."""
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    groups = torch.tensor([group for part in PAIR_GROUPS[name] for group in part])
    first = len(PAIR_GROUPS[name][0])
    rows = {None: slice(None), 0: slice(0, first), 1: slice(first, None)}[process]
    vectors = [torch.randn(len(groups), 3, dtype=torch.float64)[rows].clone().requires_grad_() for _ in range(2)]
    loss = InfoNCELoss(temperature=0.5)(vectors[0] @ weight, vectors[1] @ weight, groups[rows])
    loss.backward()
    return {"loss": loss.detach(), "inputs": [vector.grad for vector in vectors], "parameters": [weight.grad]}


def primitives_case() -> dict[str, Any]:
    summand = torch.arange(3.0, requires_grad=True)
    rows = torch.full((rank() + 1, 2), float(rank()), requires_grad=True)
    total, gathered = all_reduce_sum(summand * (rank() + 1)), gather_with_gradient(rows)
    (total.square().sum() + (gathered * torch.arange(6.0).view(3, 2)).sum()).backward()
    return {"total": total.detach(), "gathered": gathered.detach(), "gradients": [summand.grad, rows.grad]}


def work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=PROCESSES)
    results: dict[str, Any] = {"primitives": primitives_case(), "world": (rank(), world_size())}
    results["identity"] = identity_case(slice(0, 1) if process == 0 else slice(1, 3))
    for form in FORMS:
        for name in SPLITS:
            results[f"{form}/{name}"] = contrast_case(form, name, process)
    for name in PAIR_GROUPS:
        results[f"pairs/{name}"] = pairs_case(name, process)
    for case in results.values():
        if "parameters" in case:
            for gradient in case["parameters"]:
                dist.all_reduce(gradient)
                gradient /= PROCESSES
    torch.save(results, Path(folder) / f"{process}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=PROCESSES)
    return [torch.load(folder / f"{process}.pt", weights_only=True) for process in range(PROCESSES)]


def check(parts: list[dict[str, Any]], joint: dict[str, Any]) -> None:
    for part in parts:
        torch.testing.assert_close(part["loss"], joint["loss"])
        torch.testing.assert_close(part["parameters"], joint["parameters"])
        torch.testing.assert_close(part.get("buffers"), joint.get("buffers"))
    for index, gradient in enumerate(joint["inputs"]):
        # what reaches the inputs is the gradient of the sum of both processes' equal losses
        found = torch.cat([part["inputs"][index] for part in parts]) / PROCESSES
        torch.testing.assert_close(found, gradient)


def test_projected_correlation_of_two_processes_is_that_of_the_joint_batch(processes: list[dict[str, Any]]) -> None:
    check([results["identity"] for results in processes], identity_case(slice(None)))


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("form", FORMS)
def test_label_contrast_of_two_processes_is_that_of_the_joint_batch(
    processes: list[dict[str, Any]], form: str, name: str
) -> None:
    joint = contrast_case(form, name, None)
    assert joint["loss"] > 0
    check([results[f"{form}/{name}"] for results in processes], joint)


@pytest.mark.parametrize("name", PAIR_GROUPS)
def test_contrast_of_pairs_of_two_processes_is_that_of_the_joint_batch(
    processes: list[dict[str, Any]], name: str
) -> None:
    joint = pairs_case(name, None)
    assert joint["loss"] > 0
    check([results[f"pairs/{name}"] for results in processes], joint)


def test_sums_and_gathers_of_two_processes(processes: list[dict[str, Any]]) -> None:
    for process, results in enumerate(processes):
        assert results["world"] == (process, PROCESSES)
        case = results["primitives"]
        assert torch.equal(case["total"], torch.tensor([0.0, 3.0, 6.0]))
        assert torch.equal(case["gathered"], torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
        # twice the joint gradient: d sum(total^2) = 2 total, through a summand that was multiplied by its rank + 1
        torch.testing.assert_close(case["gradients"][0], 2 * 2 * case["total"] * (process + 1))
        own = slice(0, 1) if process == 0 else slice(1, 3)
        torch.testing.assert_close(case["gradients"][1], 2 * torch.arange(6.0).view(3, 2)[own])


def test_one_process_is_left_alone() -> None:
    tensor = torch.ones(3, requires_grad=True)
    assert all_reduce_sum(tensor) is tensor
    assert gather_with_gradient(tensor) is tensor
    assert (rank(), world_size()) == (0, 1)
