"""Distance maps against SciPy, the loss against NumPy, and images where there is no distance."""

import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn

from mtmed.errors import InputError
from mtmed.networks import SmallUNet, UNet
from mtmed.organ_masks import pack_masks
from mtmed.tasks import DistanceMap, MultiTaskModel, StepContext, ViewFeatures
from mtmed.tasks.mask_distance import mask_distance

SIZES = [(20, 17), (9, 12, 10)]
CONTEXT = StepContext(seed=0, step=0, positions=(0, 1))


def blobs(size, *, organs=2, batch=2, seed=0):
    """Overlapping masks B organs H W [D] of smooth shapes, some at the edge of the image."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    masks = np.zeros((batch, organs, *size), bool)
    for place in np.ndindex(batch, organs):
        for _ in range(2):
            centre, radius = generator.uniform(0, size), generator.uniform(2, min(size) / 2)
            masks[place] |= np.linalg.norm(grid - centre, axis=-1) < radius
    return torch.from_numpy(masks)


def run(task, masks, predicted, *, context=CONTEXT):
    """Loss and pictures when the head gives this map."""
    task.head = nn.Identity()
    (view,) = task.views
    features = {view: ViewFeatures([], decoded=predicted)}
    return task(features, {view: {"label": pack_masks(masks, axis=1)}}, context)


def pictured(side, masks, **options):
    task = DistanceMap(side=side, organs=masks.shape[1], **options)
    context = StepContext(seed=0, step=0, positions=(0, 1), pictures=True)
    return run(task, masks, torch.zeros(masks.shape), context=context).outputs[f"{side}_distance_target/auxiliary"]


@pytest.mark.parametrize("size", SIZES)
def test_the_inner_map_is_scipys_over_its_largest_value(size):
    masks = blobs(size)
    for found, mask in zip(pictured("inner", masks).flatten(0, 1), masks.flatten(0, 1), strict=True):
        distance = distance_transform_edt(mask.numpy())
        np.testing.assert_allclose(found.numpy(), distance / distance.max(), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_outer_map_is_scipys_over_a_hundred_voxels(size):
    masks = blobs(size)
    for found, mask in zip(pictured("outer", masks).flatten(0, 1), masks.flatten(0, 1), strict=True):
        np.testing.assert_allclose(found.numpy(), distance_transform_edt(~mask.numpy()) / 100, rtol=1e-6)


@pytest.mark.parametrize("side", ["inner", "outer"])
def test_a_scale_is_in_voxels(side):
    masks = blobs((20, 17))
    mask = masks[0, 0].numpy()
    distance = distance_transform_edt(mask if side == "inner" else ~mask)
    np.testing.assert_allclose(pictured(side, masks, scale=7.5)[0, 0].numpy(), distance / 7.5, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_map_is_the_same_without_the_fast_transform(size, monkeypatch):
    module = sys.modules[mask_distance.__module__]
    masks = [mask.numpy() for mask in blobs(size).flatten(0, 1)]
    fast = [mask_distance(mask) for mask in masks]
    monkeypatch.setattr(module, "edt", None)
    for one, mask in zip(fast, masks, strict=True):
        np.testing.assert_allclose(one, mask_distance(mask), rtol=1e-6)


@pytest.mark.parametrize("side", ["inner", "outer"])
@pytest.mark.parametrize("size", SIZES)
def test_the_loss_is_the_mean_error_where_target_or_prediction_is_above_zero(side, size):
    masks = blobs(size, seed=1)
    predicted = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))
    losses = run(DistanceMap(side=side, organs=2), masks, predicted).losses
    errors = []
    for mask, prediction in zip(masks.flatten(0, 1).numpy(), predicted.flatten(0, 1).double().numpy(), strict=True):
        distance = distance_transform_edt(mask if side == "inner" else ~mask)
        target = distance / (distance.max() if side == "inner" else 100)
        errors += list(np.abs(prediction - target)[(target > 0) | (prediction > 0)])
    assert set(losses) == {f"{side}_distance"}
    np.testing.assert_allclose(losses[f"{side}_distance"].item(), np.mean(errors), rtol=1e-5)


def test_where_the_target_is_zero_any_prediction_up_to_zero_is_right():
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    predicted = -torch.rand(2, 1, 8, 8)
    predicted.requires_grad_()
    loss = run(DistanceMap(), masks, predicted).losses["inner_distance"]
    loss.backward()
    assert loss.item() == 0
    assert not predicted.grad.any()


def test_an_image_without_the_organ_has_an_inner_map_of_zero():
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    predicted = torch.full((2, 1, 8, 8), -1.0)
    predicted[0, 0, 2, 3] = 0.75
    assert run(DistanceMap(), masks, predicted).losses["inner_distance"].item() == 0.75


@pytest.mark.parametrize(("side", "fill"), [("outer", False), ("inner", True)])
def test_an_image_without_a_boundary_is_left_out(side, fill):
    masks = blobs((12, 12), organs=1)
    predicted = torch.rand(2, 1, 12, 12)
    alone = run(DistanceMap(side=side), masks[:1], predicted[:1]).losses[f"{side}_distance"]
    masks[1] = fill
    both = run(DistanceMap(side=side), masks, predicted).losses[f"{side}_distance"]
    torch.testing.assert_close(both, alone)
    neither = run(DistanceMap(side=side), masks[1:], predicted[1:]).losses[f"{side}_distance"]
    assert neither.item() == 0


def test_exclusive_values_give_the_maps_of_the_same_masks():
    first, second = blobs((20, 17), organs=2)[0]
    masks = torch.stack([first & ~second, second])[None]
    label = (masks[:, :1] + 2 * masks[:, 1:]).to(torch.uint8)
    predicted = torch.randn(masks.shape)
    packed = run(DistanceMap(organs=2), masks, predicted).losses["inner_distance"]
    task = DistanceMap(organs=2, overlapping=False)
    task.head = nn.Identity()
    exclusive = task({"auxiliary": ViewFeatures([], decoded=predicted)}, {"auxiliary": {"label": label}}, CONTEXT)
    torch.testing.assert_close(exclusive.losses["inner_distance"], packed)


@pytest.mark.parametrize("side", ["inner", "outer"])
def test_turning_label_and_prediction_changes_nothing(side):
    masks = blobs((16, 16), organs=1)
    predicted = torch.randn(masks.shape, generator=torch.Generator().manual_seed(3))
    first = run(DistanceMap(side=side), masks, predicted).losses[f"{side}_distance"]
    turned = run(DistanceMap(side=side), masks.rot90(1, (2, 3)), predicted.rot90(1, (2, 3)))
    torch.testing.assert_close(turned.losses[f"{side}_distance"], first)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_encoder_and_the_decoder_learn_from_it(spatial_dims):
    torch.manual_seed(0)
    if spatial_dims == 2:
        network = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2)
    else:
        network = UNet(in_channels=1, out_channels=2, features=(2, 2, 4, 4, 4, 2))
    model = MultiTaskModel(network=network, tasks={"inner_distance": DistanceMap(organs=2)})
    masks = blobs((32,) * spatial_dims)
    image = torch.rand(2, 1, *masks.shape[2:]) + masks[:, :1]
    losses, outputs = model({"auxiliary": {"image": image, "label": pack_masks(masks, axis=1)}}, CONTEXT)
    losses["inner_distance"].backward()
    assert not outputs
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in network.named_parameters() if name.startswith("final_conv.")}


def test_a_view_without_labels_is_refused_with_what_needs_none():
    model = MultiTaskModel(
        network=SmallUNet(in_channels=1, out_channels=1, base_channels=4, depth=2), tasks={"d": DistanceMap()}
    )
    with pytest.raises(
        InputError, match=r"view auxiliary: has no label.*needs labels; .*use rotation, which needs none"
    ):
        model({"auxiliary": {"image": torch.rand(2, 1, 16, 16)}}, CONTEXT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"organs": 0}, "organs: is 0"),
        ({"scale": 0.0}, "scale: is 0.0"),
        ({"scale": float("inf")}, "scale: is inf"),
        ({"side": "both"}, "side is 'both'; allowed are"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DistanceMap(**options)


def _process(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(_loss_and_gradient(slice(rank, rank + 1)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _loss_and_gradient(samples):
    masks = blobs((20, 17))
    masks[1, 0] = False
    predicted = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))[samples].requires_grad_()
    loss = run(DistanceMap(organs=2), masks[samples], predicted).losses["inner_distance"]
    loss.backward()
    return loss.detach(), predicted.grad


def test_two_processes_give_what_one_gives_on_the_joint_batch(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    loss, gradient = _loss_and_gradient(slice(None))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    # distributed training takes the mean over processes of losses and gradients
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, loss)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]) / 2, gradient)


def test_maps_start_where_the_background_does_not_count():
    torch.manual_seed(0)
    network, task = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2), DistanceMap(organs=2)
    task.setup(network)
    masks = blobs((32, 32))
    decoded = network.decode(network.encode(torch.rand(2, 1, 32, 32)))
    predicted = task.head(decoded).detach()
    assert predicted.max() < 0
    result = task(
        {"auxiliary": ViewFeatures([], decoded)}, {"auxiliary": {"label": pack_masks(masks, axis=1)}}, CONTEXT
    )
    target = pictured("inner", masks)
    expected = (predicted - target).abs()[target > 0].mean()
    torch.testing.assert_close(result.losses["inner_distance"], expected)
