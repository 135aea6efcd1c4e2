"""Several networks, against the mean of their probabilities in float64."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.special import expit, logit
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers import EnsembleInferer, SliceInferer, ensemble_members
from mtmed.networks import build_network, save_network


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Weighted(nn.Module):
    """One organ: a weighted sum of the channels, and a constant while training."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,c->nhw", slices, torch.tensor(self.weights))[:, None] + 100.0 * self.training


def test_logits_are_those_of_the_mean_probability():
    members = [(Weighted(weight), SliceInferer(batch_size=2), []) for weight in (-0.5, 1.0, 4.0)]
    image = _image(2, 1, 5, 6, 7)
    ours = EnsembleInferer(members)(image, nn.Identity())
    voxels = image.double().numpy()
    expected = logit(np.mean([expit(weight * voxels) for weight in (-0.5, 1.0, 4.0)], axis=0))
    assert ours.dtype == torch.float32
    assert np.abs(ours.numpy() - expected).max() < 1e-4
    assert all(not network.training for network, _, _ in members)


def test_one_network_is_itself():
    image = _image(1, 1, 3, 4, 4)
    ours = EnsembleInferer([(Weighted(2.0), SliceInferer(), [])])(image)
    assert torch.allclose(ours, 2 * image, atol=1e-4)


def test_each_network_is_shown_its_own_slices_and_features_in_its_own_order():
    image = _image(1, 4, 5, 3, 3)
    features = ["slice_position", "pixel_width", "day_number"]
    members = [
        (Weighted(1.0, 0.25), SliceInferer(feature_planes=1), ["day_number"]),
        (Weighted(0, 1.0, 2.0, -1.0), SliceInferer(slice_offsets=[-1, 1], feature_planes=2), features[1::-1]),
        (Weighted(1.0), SliceInferer(), []),
    ]
    ours = EnsembleInferer(members, features)(image)
    grey, position, width, day = image[0].double().numpy()
    above = np.concatenate([grey[1:], grey[-1:]])
    expected = np.mean([expit(grey + 0.25 * day), expit(above + 2 * width - position), expit(grey)], axis=0)
    assert np.abs(expit(ours[0, 0].double().numpy()) - expected).max() < 1e-6


def test_certain_networks_give_finite_logits_and_the_affine_stays():
    affine = torch.diag(torch.tensor([3.0, -2.0, -1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.tensor([-1e4, 0.0, 1e4]).view(1, 1, 3, 1, 1), affine=affine)
    ours = EnsembleInferer([(Weighted(1.0), SliceInferer(), [])] * 2)(image)
    assert isinstance(ours, MetaTensor)
    assert torch.equal(ours.affine, affine)
    assert ours.flatten().tolist() == [-1e4, 0, 1e4]


def test_probabilities_next_to_one_keep_their_order():
    image = torch.tensor([16.0, 18.0, 20.0]).view(1, 1, 3, 1, 1)
    one, two = (
        EnsembleInferer([(Weighted(weight), SliceInferer(), []) for weight in weights])(image)
        for weights in ((1.0,), (1.0, 2.0))
    )
    torch.testing.assert_close(one, image)
    assert two.flatten().diff().min() > 0


def test_a_feature_that_the_images_lack_is_named():
    members = [
        (Weighted(1.0), SliceInferer(), []),
        (Weighted(1.0, 1.0), SliceInferer(feature_planes=1), ["day_number"]),
    ]
    with pytest.raises(InputError, match="network 2 of the ensemble: needs 'day_number', the images have slice_posi"):
        EnsembleInferer(members, ["slice_position"])
    with pytest.raises(InputError, match="the images have no features"):
        EnsembleInferer(members)


def test_an_inferer_of_another_number_of_planes_is_refused():
    with pytest.raises(ValueError, match="Network 1 has 1 features, its inferer expects 0 planes"):
        EnsembleInferer([(Weighted(1.0), SliceInferer(), ["day_number"])], ["day_number"])


def test_no_network_other_organs_and_logits_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="members"):
        EnsembleInferer([])
    image = _image(1, 1, 3, 4, 4)
    two = nn.Conv2d(1, 2, 1)
    with pytest.raises(InputError, match="network 2 of the ensemble: segments 2 organs, those before it 1"):
        EnsembleInferer([(Weighted(1.0), SliceInferer(), []), (two, SliceInferer(), [])])(image)
    with pytest.raises(InputError, match="network 2 of the ensemble: the network's output is not finite"):
        EnsembleInferer([(Weighted(weight), SliceInferer(), []) for weight in (1.0, float("nan"))])(image)


def test_members_from_files_see_as_many_slices_at_once_as_asked(tmp_path):
    definition = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 1, "out_channels": 1}
    network = build_network({**definition, "base_channels": 2, "depth": 1})
    settings = {"organs": ["a"], "modalities": ["MR"], "image_size": [4, 4], "normalise_per": "slice"}
    save_network(tmp_path / "model.pt", network, {**settings, "slice_offsets": [0], "features": []})
    ((loaded, inferer, _),) = ensemble_members([str(tmp_path / "model.pt")], settings=settings, batch_size=2)
    counts = []
    loaded.register_forward_hook(lambda module, given, logits: counts.append(len(logits)))
    inferer(_image(1, 1, 5, 4, 4), loaded)
    assert counts == [2, 2, 1]
