"""Position regression: error and gradient by hand, and what it trains."""

import numpy as np
import pytest
import torch
from slice_batches import make_dense_unet, make_slices, make_unet

from mtmed.errors import InputError
from mtmed.tasks import MultiTaskModel, SlicePosition, StepContext, ViewFeatures

CONTEXT = StepContext(seed=0, step=0, positions=tuple(range(8)))


@pytest.mark.parametrize("make_network", [make_unet, make_dense_unet, lambda: make_unet(spatial_dims=3)])
def test_error_is_that_of_two_layers_on_the_pooled_coarsest_map(make_network):
    network = make_network()
    task = SlicePosition(hidden=6)
    model = MultiTaskModel(network=network, tasks={"p": task}).double()
    view = make_slices(spatial_dims=network.spatial_dims, dtype=torch.float64)
    losses, outputs = model({"patch": view}, CONTEXT)
    state = {name: tensor.numpy() for name, tensor in task.state_dict().items()}
    with torch.no_grad():
        coarsest = network.encode(view["image"])[-1].numpy()
    pooled = coarsest.reshape(*coarsest.shape[:2], -1).mean(2)
    hidden = np.maximum(pooled @ state["head.layers.0.weight"].T + state["head.layers.0.bias"], 0)
    predicted = (hidden @ state["head.layers.2.weight"].T + state["head.layers.2.bias"])[:, 0]
    error = predicted - view["slice_position"].double().numpy()
    assert set(losses) == {"slice_position"}
    assert float(losses["slice_position"].detach()) == pytest.approx((error**2).mean(), rel=1e-10)
    assert float(outputs["slice_position/mean_absolute_error"]) == pytest.approx(np.abs(error).mean(), rel=1e-10)


def test_the_encoder_is_trained_and_nothing_of_the_decoder():
    network = make_unet()
    model = MultiTaskModel(network=network, tasks={"p": SlicePosition()})
    losses, outputs = model({"patch": make_slices()}, CONTEXT)
    losses["slice_position"].backward()
    assert not any(value.requires_grad for value in outputs.values())
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    encoder = {f"network.{name}" for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}
    assert waiting == encoder | {f"tasks.p.head.layers.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias")}


def test_gradient_equals_finite_differences():
    task = SlicePosition(hidden=3)
    task.setup(make_unet())
    task.double()
    view = {"image": torch.zeros(2, 1, 4, 4), "slice_position": torch.tensor([0.25, 0.5], dtype=torch.float64)}
    feature_map = torch.randn(2, 12, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda tensor: task({"patch": ViewFeatures([tensor])}, {"patch": view}, CONTEXT).losses["slice_position"],
        feature_map,
    )


def test_half_precision_keeps_the_head_in_single():
    model = MultiTaskModel(network=make_unet(), tasks={"p": SlicePosition()})
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = model({"patch": make_slices()}, CONTEXT)
    assert losses["slice_position"].dtype == torch.float32


def test_training_finds_how_bright_slices_get_with_position():
    model = MultiTaskModel(network=make_unet(), tasks={"p": SlicePosition()})
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    errors = []
    for step in range(60):
        view = make_slices(step)
        # a bar as high as the position
        for image, position in zip(view["image"], view["slice_position"], strict=True):
            image *= 0.1
            image[:, : int(32 * position)] += 1
        losses, outputs = model({"patch": view}, CONTEXT)
        errors.append(float(outputs["slice_position/mean_absolute_error"]))
        optimizer.zero_grad()
        losses["slice_position"].backward()
        optimizer.step()
    assert np.mean(errors[-10:]) < 0.12 < np.mean(errors[:3])


def test_wrong_arguments_and_views_without_position_are_refused():
    with pytest.raises(InputError, match="hidden"):
        SlicePosition(hidden=0)
    model = MultiTaskModel(network=make_unet(), tasks={"p": SlicePosition()})
    view = make_slices()
    del view["slice_position"]
    with pytest.raises(InputError, match="view patch: has no slice_position"):
        model({"patch": view}, CONTEXT)
