"""Whole volumes by settings: slices of 2D networks, windows of 3D ones, and ensembles of these."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from scipy.special import expit, logit
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers import EnsembleInferer, SliceInferer, WindowInferer, ensemble_members, whole_volume_inferer
from mtmed.networks import build_network, save_network

VOLUMES = {
    "organs": ["atrium", "wall"],
    "modalities": ["MR"],
    "slice_offsets": None,
    "features": [],
    "spacing": [1.0, 1.0, 1.0],
    "patch_size": [32, 32, 32],
}


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _unet(seed: int, side: str = "UNet") -> nn.Module:
    torch.manual_seed(seed)
    definition = {"_target_": f"mtmed.networks.{side}", "in_channels": 1, "out_channels": 2}
    return build_network({**definition, "features": [2, 2, 2, 2, 2, 2]}).eval()


def test_slice_offsets_tell_2d_from_3d():
    slices = whole_volume_inferer({"slice_offsets": [-1, 0, 1], "features": ["day_number"]}, batch_size=3)
    assert isinstance(slices, SliceInferer)
    assert (slices.slice_offsets, slices.feature_planes, slices.batch_size) == ((-1, 0, 1), 1, 3)
    assert whole_volume_inferer({"slice_offsets": [0]}).batch_size == 32
    windows = whole_volume_inferer(VOLUMES, overlap=0.25)
    assert isinstance(windows, WindowInferer)
    assert (windows.patch_size, windows.feature_planes) == ((32, 32, 32), 0)


@pytest.mark.parametrize("shape", [(2, 1, 40, 36, 50), (1, 1, 20, 40, 33)])
def test_windows_are_those_of_monai(shape):
    network, image = _unet(0), _image(*shape)
    with torch.no_grad():
        expected = SlidingWindowInferer((32, 32, 32), 1, overlap=0.25, mode="gaussian")(image, network)
    found = whole_volume_inferer(VOLUMES, overlap=0.25, batch_size=3)(image, network)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_logits_are_float32_whatever_the_network_gives_and_the_affine_stays():
    affine = torch.diag(torch.tensor([3.0, -2.0, -1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(_image(1, 1, 20, 24, 16), affine=affine)
    found = WindowInferer(patch_size=(16, 16, 16))(image, lambda windows: windows.bfloat16())
    assert isinstance(found, MetaTensor)
    assert found.dtype == torch.float32
    assert torch.equal(found.affine, affine)
    torch.testing.assert_close(found.as_tensor(), image.as_tensor(), rtol=1e-2, atol=1e-2)


def test_no_more_windows_than_asked_go_through_the_network_at_once():
    counts: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        counts.append(len(windows))
        assert not torch.is_grad_enabled()
        return windows

    WindowInferer(patch_size=(8, 8, 8), overlap=0, batch_size=3)(_image(2, 1, 8, 16, 16), network)
    assert counts == [3, 1, 3, 1]


def test_an_ensemble_of_3d_networks_gives_the_logits_of_the_mean_probability(tmp_path):
    for seed in (1, 2):
        # a member with windows of its own
        size = [32, 32, 32] if seed == 1 else [48, 48, 48]
        save_network(tmp_path / f"{seed}.pt", _unet(seed), {**VOLUMES, "patch_size": size})
    image, first = _image(1, 1, 40, 32, 50), _unet(0)
    paths = [str(tmp_path / f"{seed}.pt") for seed in (1, 2)]
    members = ensemble_members(paths, settings=VOLUMES, overlap=0.25, batch_size=2)
    assert [inferer.patch_size for _, inferer, _ in members] == [(32, 32, 32), (48, 48, 48)]
    inferer = EnsembleInferer([(first, whole_volume_inferer(VOLUMES, overlap=0.25), []), *members])
    found = inferer(image)
    alone = [
        SlidingWindowInferer((side,) * 3, 1, overlap=0.25, mode="gaussian")(image, network)
        for side, network in ((32, first), (32, _unet(1)), (48, _unet(2)))
    ]
    expected = logit(np.mean([expit(one.detach().double().numpy()) for one in alone], axis=0))
    assert np.abs(found.numpy() - expected).max() < 1e-4


def test_a_member_of_other_voxels_or_of_slices_is_refused(tmp_path):
    path = str(tmp_path / "model.pt")
    save_network(path, _unet(0), VOLUMES)
    with pytest.raises(InputError, match=r"spacing \[1.0, 1.0, 1.0\], the first model with \[2.0, 1.0, 1.0\]"):
        ensemble_members([path], settings={**VOLUMES, "spacing": [2.0, 1.0, 1.0]})
    with pytest.raises(InputError, match=r"image_size None, the first model with \[64, 64\]"):
        ensemble_members([path], settings={**VOLUMES, "image_size": [64, 64], "slice_offsets": [0]})


@pytest.mark.parametrize("settings", [VOLUMES, {"slice_offsets": [0]}])
def test_an_overlap_of_whole_windows_is_refused(settings):
    with pytest.raises(InputError, match=r"^overlap: is 1; give a share from 0 and below 1"):
        whole_volume_inferer(settings, overlap=1)


def test_logits_that_are_not_finite_and_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="image: the network's output is not finite"):
        WindowInferer(patch_size=(4, 4, 4))(_image(1, 1, 4, 4, 4), lambda windows: windows / 0)
    with pytest.raises(ValueError, match="give B C D H W"):
        WindowInferer(patch_size=(4, 4, 4))(_image(1, 1, 4, 4), nn.Identity())
    for wrong in ({"patch_size": (4, 4)}, {"patch_size": (0, 4, 4)}, {"overlap": 1.0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            WindowInferer(**{"patch_size": (4, 4, 4), **wrong})
