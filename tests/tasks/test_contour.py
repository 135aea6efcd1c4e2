"""Contours against SciPy's morphology, the loss against NumPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from torch import nn

from mtmed.errors import InputError
from mtmed.networks import SmallUNet, UNet
from mtmed.organ_masks import pack_masks
from mtmed.tasks import Contour, MultiTaskModel, StepContext, ViewFeatures

SIZES = [(20, 17), (9, 12, 10)]


def boxes(size, *, organs=2, batch=2, seed=0):
    """Overlapping boxes B organs H W [D], some at the edge of the image."""
    generator = np.random.default_rng(seed)
    masks = torch.zeros(batch, organs, *size, dtype=torch.bool)
    for place in np.ndindex(batch, organs):
        first = generator.integers(0, [side - 4 for side in size])
        last = generator.integers(first + 3, [side + 1 for side in size])
        masks[place][tuple(slice(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True))] = True
    return masks


def contours_of(masks):
    """By SciPy, in float64; the edge of the image is no contour."""
    box = np.ones((3,) * (masks.dim() - 2), bool)
    found = [
        binary_dilation(mask, box) ^ binary_erosion(mask, box, border_value=1) for mask in masks.flatten(0, 1).numpy()
    ]
    return np.stack(found).reshape(masks.shape).astype(np.float64)


def run(masks, logits, *, label=None, pictures=False, **options):
    """Output of the task when its head gives these logits."""
    task = Contour(organs=masks.shape[1], **options)
    task.head = nn.Identity()
    view = {"label": pack_masks(masks, axis=1) if label is None else label}
    context = StepContext(seed=0, step=0, positions=(0, 1), pictures=pictures)
    return task({"auxiliary": ViewFeatures([], decoded=logits)}, {"auxiliary": view}, context)


@pytest.mark.parametrize("size", SIZES)
def test_the_loss_is_the_dice_loss_over_the_batch_of_dilated_xor_eroded(size):
    masks = boxes(size)
    logits = torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))
    share, contours = 1 / (1 + np.exp(-logits.double().numpy())), contours_of(masks)
    axes = (0, *range(2, masks.dim()))
    losses = 1 - 2 * (share * contours).sum(axes) / (share.sum(axes) + contours.sum(axes))
    np.testing.assert_allclose(run(masks, logits).losses["contour"].item(), losses.mean(), rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_right_contour_costs_nothing(size):
    masks = boxes(size, seed=2)
    logits = torch.from_numpy(200 * contours_of(masks) - 100).float()
    assert abs(run(masks, logits).losses["contour"].item()) < 1e-5


def test_a_contour_is_two_voxels_thick_and_none_at_the_edge_of_the_image():
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    masks[..., 4:] = True
    expected = torch.zeros(1, 1, 8, 8)
    expected[..., 3:5] = 1
    np.testing.assert_array_equal(contours_of(masks), expected.numpy())
    assert run(masks, 200 * expected - 100).losses["contour"].item() < 1e-5


def test_exclusive_values_give_the_loss_of_the_same_masks():
    first, second = boxes((20, 17))[0]
    masks = torch.stack([first & ~second, second])[None]
    label = (masks[:, :1] + 2 * masks[:, 1:]).to(torch.uint8)
    logits = torch.randn(masks.shape, generator=torch.Generator().manual_seed(1))
    exclusive = run(masks, logits, label=label, overlapping=False).losses["contour"]
    torch.testing.assert_close(exclusive, run(masks, logits).losses["contour"])


def test_an_image_without_organs_has_a_finite_loss_and_gradient():
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    loss = run(masks, logits).losses["contour"]
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_the_picture_is_the_probability_of_any_contour():
    masks = boxes((20, 17))
    logits = torch.randn(masks.shape)
    picture = run(masks, logits, pictures=True).outputs["contour/auxiliary"]
    torch.testing.assert_close(picture, logits.sigmoid().amax(1, keepdim=True))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_encoder_and_the_decoder_learn_from_it(spatial_dims):
    torch.manual_seed(0)
    if spatial_dims == 2:
        network = SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2)
    else:
        network = UNet(in_channels=1, out_channels=2, features=(2, 2, 4, 4, 4, 2))
    model = MultiTaskModel(network=network, tasks={"contour": Contour(organs=2)})
    masks = boxes((32,) * spatial_dims)
    views = {"auxiliary": {"image": torch.rand(2, 1, *masks.shape[2:]), "label": pack_masks(masks, axis=1)}}
    losses, _ = model(views, StepContext(seed=0, step=0, positions=(0, 1)))
    losses["contour"].backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in network.named_parameters() if name.startswith("final_conv.")}


def test_a_view_without_labels_and_a_task_without_organs_are_refused():
    task = Contour()
    task.head = nn.Identity()
    features = {"auxiliary": ViewFeatures([], decoded=torch.zeros(1, 1, 8, 8))}
    with pytest.raises(InputError, match=r"needs labels; .*use rotation, which needs none"):
        task(features, {"auxiliary": {"image": torch.zeros(1, 1, 8, 8)}}, StepContext(seed=0, step=0, positions=(0,)))
    with pytest.raises(InputError, match="organs: is 0"):
        Contour(organs=0)
