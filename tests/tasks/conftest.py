"""A tiny network and views to call tasks with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mtmed.networks import UNETR, build_network
from mtmed.tasks import StepContext

SIZE = (32, 32, 16)


def make_network(classes: int = 3) -> UNETR:
    torch.manual_seed(0)
    definition = {
        "_target_": "mtmed.networks.UNETR",
        "in_channels": 1,
        "out_channels": classes,
        "img_size": list(SIZE),
        "feature_size": 4,
        "hidden_size": 24,
        "mlp_dim": 48,
        "num_heads": 2,
    }
    network = build_network(definition)
    assert isinstance(network, UNETR)
    return network


@pytest.fixture
def network() -> UNETR:
    return make_network()


@pytest.fixture
def make_views() -> Callable[..., dict[str, dict[str, torch.Tensor]]]:
    """Views ``view_a``, ``view_b`` of one patch and ``auxiliary``, of which each sample has some labels."""

    def make(batch: int = 2, datasets: tuple[int, ...] = (0, 1), seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, 1, *SIZE)

        def source() -> dict[str, torch.Tensor]:
            return {
                "clean": torch.rand(shape, generator=generator),
                "label": torch.randint(0, 3, shape, generator=generator, dtype=torch.uint8),
                "distance": 1 + 9 * torch.rand(shape, generator=generator),
                "dataset": torch.tensor(datasets),
            }

        patch, auxiliary = source(), source()

        def view(part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {**part, "image": part["clean"] + 0.2 * torch.randn(shape, generator=generator)}

        return {"view_a": view(patch), "view_b": view(patch), "auxiliary": view(auxiliary)}

    return make


@pytest.fixture
def make_context() -> Callable[..., StepContext]:
    def make(**options: Any) -> StepContext:
        return StepContext(**{"seed": 0, "step": 3, "positions": (0, 1), **options})

    return make
