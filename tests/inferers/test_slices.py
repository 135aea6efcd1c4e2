"""Volumes slice by slice, against the same slices put together by NumPy."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers import SliceInferer


def _network(channels: int, organs: int = 3) -> nn.Module:
    torch.manual_seed(3)
    layers = nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, organs, 3, padding=1)
    return nn.Sequential(*layers).eval()


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize(
    ("offsets", "channels", "planes"),
    [([0], 1, 0), ([0, 0, 0], 1, 0), ([-2, 0, 2], 1, 2), ([-1, 1], 2, 1), ([-9, 0, 9], 1, 0)],
)
def test_each_slice_is_what_the_network_gives_for_it_alone(offsets, channels, planes, batch_size):
    network = _network(channels * len(offsets) + planes)
    image = _image(2, channels + planes, 7, 9, 11)
    inferer = SliceInferer(slice_offsets=offsets, feature_planes=planes, batch_size=batch_size)
    ours = inferer(image, network)
    assert ours.shape == (2, 3, 7, 9, 11)
    assert ours.dtype == torch.float32
    voxels = image.numpy()
    for sample in range(2):
        for index in range(7):
            seen = [voxels[sample, :channels, np.clip(index + offset, 0, 6)] for offset in offsets]
            seen.append(voxels[sample, channels:, index])
            with torch.no_grad():
                alone = network(torch.from_numpy(np.concatenate(seen))[None])[0]
            assert torch.allclose(ours[sample, :, index], alone, atol=1e-5)


def test_channels_are_in_the_order_of_the_offsets_and_planes_come_last():
    seen = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        seen.append(slices[:, :, 0, 0].clone())
        return slices[:, :1]

    volume = torch.zeros(1, 3, 4, 2, 2)
    volume[0, 0] = torch.arange(4.0)[:, None, None]  # two channels of the image and one plane
    volume[0, 1] = 10 + torch.arange(4.0)[:, None, None]
    volume[0, 2] = 100 + torch.arange(4.0)[:, None, None]
    SliceInferer(slice_offsets=[-1, 0], feature_planes=1)(volume, network)
    assert torch.cat(seen).tolist() == [
        [0, 10, 0, 10, 100],
        [0, 10, 1, 11, 101],
        [1, 11, 2, 12, 102],
        [2, 12, 3, 13, 103],
    ]


def test_a_single_slice_is_its_own_neighbour():
    image = _image(1, 1, 1, 5, 6)
    ours = SliceInferer(slice_offsets=[-2, 0, 2])(image, nn.Identity())
    assert torch.equal(ours, image.expand(1, 3, 1, 5, 6))


def test_half_precision_comes_back_as_float32_with_the_images_affine_and_arguments_are_passed_on():
    affine = torch.diag(torch.tensor([3.0, -2.0, -1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(_image(1, 1, 3, 5, 6), affine=affine, meta={"filename_or_obj": "scan"})
    ours = SliceInferer()(image, lambda slices, factor, more: (slices * factor + more).half(), 2.0, more=1.0)
    assert isinstance(ours, MetaTensor)
    assert ours.dtype == torch.float32
    assert torch.equal(ours.affine, affine)
    assert ours.meta["filename_or_obj"] == "scan"
    assert torch.equal(ours.as_tensor(), (image.as_tensor() * 2 + 1).half().float())


def test_unknown_metadata_reaches_the_network_and_the_input_is_left_as_it_is():
    volume = _image(1, 2, 3, 4, 4)
    volume[:, 1] = torch.nan
    before = volume.clone()
    ours = SliceInferer(feature_planes=1)(volume, lambda slices: slices[:, 1:].isnan().float())
    assert bool((ours == 1).all())
    assert torch.equal(volume[:, :1], before[:, :1])


def test_no_gradient_is_kept():
    assert not SliceInferer()(_image(1, 1, 2, 4, 4), _network(1)).requires_grad


def test_logits_that_are_not_finite_name_the_image():
    image = MetaTensor(_image(1, 1, 3, 5, 6), meta={"filename_or_obj": "case3_day2/scans"})
    with pytest.raises(InputError, match="case3_day2/scans: the network's output is not finite"):
        SliceInferer()(image, lambda slices: slices / 0)


@pytest.mark.parametrize("network", [lambda x: [x], lambda x: x[:, :, 1:], lambda x: x[1:], lambda x: x[:, 0]])
def test_a_network_that_gives_anything_but_logits_of_the_slices_is_refused(network):
    with pytest.raises(ValueError, match="one tensor for 3 slices"):
        SliceInferer()(_image(1, 1, 3, 5, 6), network)


@pytest.mark.parametrize("shape", [(1, 1, 5, 6), (1, 2, 3, 5, 6)])
def test_images_that_are_no_volumes_or_planes_alone_are_refused(shape):
    with pytest.raises(ValueError, match="give B C D H W"):
        SliceInferer(feature_planes=2)(_image(*shape), nn.Identity())


@pytest.mark.parametrize("options", [{"slice_offsets": []}, {"feature_planes": -1}, {"batch_size": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SliceInferer(**options)
