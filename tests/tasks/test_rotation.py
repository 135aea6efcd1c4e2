"""Rotation: the turned images against NumPy, the head, and learning."""

import numpy as np
import pytest
import torch
from slice_batches import make_dense_unet, make_unet
from small_networks import make_small_unet, make_unetr

from mtmed.errors import InputError
from mtmed.tasks import MultiTaskModel, Rotation, StepContext


def make_model(network, **options):
    torch.manual_seed(1)
    task = Rotation(**options)
    return MultiTaskModel(network=network, tasks={"r": task}).train(), task


def make_context(step=0, size=8, **options):
    return StepContext(seed=0, step=step, positions=tuple(range(size)), **options)


@pytest.mark.parametrize(
    ("make", "size", "options"),
    [
        (make_small_unet, (16, 16), {}),
        (lambda: make_unet(spatial_dims=3), (3, 16, 16), {}),
        (lambda: make_unet(spatial_dims=3), (16, 16, 5), {"axes": (0, 1)}),
    ],
)
def test_images_are_turned_by_quarters_as_numpy_turns_them(make, size, options):
    _, task = make_model(make(), **options)
    image = torch.rand(8, 2, *size)
    context = make_context(step=3)
    view = {"image": image, "volume": torch.arange(8)}
    shown = task.derived_views({"auxiliary": view}, context)
    drawn = task._draw(context)
    assert len(set(drawn)) > 2
    axes = tuple(axis if axis < 0 else axis + 1 for axis in task.axes)
    for found, one, quarters in zip(shown["auxiliary/rotation"]["image"], image, drawn, strict=True):
        np.testing.assert_array_equal(found, np.rot90(one.numpy(), quarters, axes))
    assert torch.equal(shown["auxiliary/rotation"]["volume"], view["volume"])


@pytest.mark.parametrize(("make", "size"), [(make_small_unet, (12, 20)), (make_unetr, (8, 12, 20))])
def test_a_plane_that_is_not_square_keeps_its_shape_and_all_turns_are_resized_alike(make, size):
    _, task = make_model(make())
    square = torch.rand(1, 1, *size[:-1], size[-2])
    image = torch.cat([torch.zeros(*square.shape[:-1], 4), square, torch.zeros(*square.shape[:-1], 4)], -1)
    context = make_context(step=3)
    shown = task.derived_views({"auxiliary": {"image": image.repeat_interleave(8, 0)}}, context)
    found = shown["auxiliary/rotation"]["image"]
    assert found.shape[2:] == size
    mode = "bilinear" if len(size) == 2 else "trilinear"
    for one, quarters in zip(found, task._draw(context), strict=True):
        turned = torch.from_numpy(np.rot90(square.numpy(), quarters, (-2, -1)).copy())
        expected = torch.nn.functional.interpolate(turned, size=size, mode=mode)
        torch.testing.assert_close(one[None], expected)


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (make_small_unet, (12, 20)),
        (make_dense_unet, (40, 40)),
        (lambda: make_unet(spatial_dims=3), (16, 32, 32)),
        (make_unetr, (32, 32, 16)),
    ],
)
def test_the_loss_is_cross_entropy_of_the_turns_and_reaches_the_encoder(make, size):
    network = make()
    model, task = make_model(network)
    context = make_context(size=4, pictures=True)
    losses, outputs = model({"auxiliary": {"image": torch.rand(4, 1, *size)}}, context)
    losses["rotation"].backward()
    assert outputs["rotation/auxiliary"].shape == (4, 1, *size)
    drawn = task._draw(context)
    with torch.no_grad():
        logits = task.head(network.encode(outputs["rotation/auxiliary"])).double().numpy()
    terms = [np.log(np.exp(row).sum()) - row[quarters] for row, quarters in zip(logits, drawn, strict=True)]
    assert float(losses["rotation"].detach()) == pytest.approx(np.mean(terms), rel=1e-4)
    assert float(outputs["rotation/accuracy"]) == pytest.approx(np.mean(logits.argmax(1) == drawn))
    waiting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert waiting == {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_turns_depend_on_seed_step_and_position_only():
    _, task = make_model(make_small_unet())
    both = task._draw(make_context(step=5))
    assert task._draw(StepContext(seed=0, step=5, positions=(6, 2))) == [both[6], both[2]]
    assert {row for step in range(8) for row in task._draw(make_context(step))} == {0, 1, 2, 3}


def test_a_network_learns_which_side_is_bright():
    model, _ = make_model(make_small_unet(), hidden=32)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 16).expand(16, 1, 16, 16)
    accuracies = []
    for step in range(80):
        image = ramp + 0.05 * torch.randn(16, 1, 16, 16, generator=generator)
        losses, outputs = model({"auxiliary": {"image": image}}, make_context(step, size=16))
        optimizer.zero_grad()
        losses["rotation"].backward()
        optimizer.step()
        accuracies.append(float(outputs["rotation/accuracy"]))
    assert np.mean(accuracies[-5:]) > 0.9


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="hidden: is 0"):
        Rotation(hidden=0)
    with pytest.raises(InputError, match=r"axes: are \[1\]"):
        Rotation(axes=(1,))
    for axes in ((1, 2), (-1, 1), (0, 0)):
        with pytest.raises(InputError, match=r"axes: are .* the images have 2 axes"):
            make_model(make_small_unet(), axes=axes)
