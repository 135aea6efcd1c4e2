"""Two processes aggregate gradients as one does on the joint batch."""

from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn

from mtmed.losses import GradientAggregation

pytest.importorskip("torchjd")


def _gradients(samples: slice) -> tuple[list[nn.Parameter], dict[str, float]]:
    """Parameters with the gradient of three tasks on some of six samples, and the weights in force."""
    torch.manual_seed(0)
    shared = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    heads = [nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(3)]
    data, targets = torch.randn(6, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    hidden = torch.tanh(data[samples] @ shared)
    pairs = zip("mab", heads, targets[:, samples], strict=True)
    losses = {name: (hidden @ head - target).square().mean() for name, head, target in pairs}
    weighting = GradientAggregation(
        weights={"m": 1.0, "a": 0.5, "b": 2.0}, auxiliary=["a", "b"], parameters=[shared], aggregator="upgrad"
    )
    weighted = weighting(losses, 0)
    weighted.total.backward()
    return [shared, *heads], weighted.weights


def _work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=process, world_size=2)
    parameters, weights = _gradients(slice(3 * process, 3 * process + 3))
    gradients = []
    for parameter in parameters:
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        gradients.append(parameter.grad / 2)
    torch.save({"gradients": gradients, "weights": weights}, Path(folder) / f"{process}.pt")
    dist.destroy_process_group()


def test_two_processes_aggregate_as_one_on_the_joint_batch(tmp_path: Path) -> None:
    multiprocessing.spawn(_work, args=(str(tmp_path),), nprocs=2)
    parameters, weights = _gradients(slice(None))
    for process in range(2):
        found = torch.load(tmp_path / f"{process}.pt", weights_only=True)
        assert found["weights"] == pytest.approx(weights, rel=1e-9)
        torch.testing.assert_close(found["gradients"], [parameter.grad for parameter in parameters])
