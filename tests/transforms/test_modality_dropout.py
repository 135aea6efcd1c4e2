"""A sample sometimes loses a modality, never its last one."""

import torch

from mtmed.transforms.modality_dropout import ModalityDropout
from mtmed.transforms.views import ViewMaker

PLACE = {"seed": 0, "step": 3}


def test_exactly_one_modality_is_cleared_and_each_alike():
    image = torch.ones(300, 3, 2, 2)
    dropped = ModalityDropout(probability=1.0)(image, positions=range(300), **PLACE)
    cleared = (dropped == 0).all((2, 3))
    assert (cleared.sum(1) == 1).all()
    assert ((cleared.sum(0) - 100).abs() < 30).all()
    assert (dropped[~cleared] == 1).all()


def test_the_only_modality_stays():
    image = torch.zeros(8, 2, 2, 2)
    image[:, 1] = 1
    assert torch.equal(ModalityDropout(probability=1.0)(image, positions=range(8), **PLACE), image)


def test_nothing_happens_with_probability_zero():
    image = torch.rand(4, 2, 3, 3)
    assert torch.equal(ModalityDropout(probability=0.0)(image, positions=range(4), **PLACE), image)


def test_masks_behind_the_modalities_are_not_touched():
    image = torch.rand(6, 4, 3, 3) + 1
    maker = ViewMaker(views={"patch": "patch"}, intensity=[ModalityDropout(probability=1.0)], intensity_channels=2)
    changed = maker({"patch": {"image": image}}, positions=range(6), **PLACE)["patch"]["image"]
    assert torch.equal(changed[:, 2:], image[:, 2:])
    assert ((changed[:, :2] == 0).all((2, 3)).sum(1) == 1).all()
