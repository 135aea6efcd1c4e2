"""Views that show their role as it is, and what belongs to a slice on its way through the views."""

import pytest
import torch

from mtmed.engines import batch_roles
from mtmed.errors import InputError
from mtmed.transforms import Affine, Flip, GaussianNoise, IntensityShift, ViewMaker

RUN = {"seed": 11, "step": 4}
VIEWS = {"patch": "patch", "contrast": "patch"}


def samples(size: int = 3, features: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """2D samples, 5 x 4 pixels, with what is known of each."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(size, 1, 5, 4, generator=generator)
    condition = torch.rand(size, features, generator=generator)
    condition[0, 0] = torch.nan
    return {
        "image": image,
        "label": (7 * image).to(torch.uint8),
        "condition": condition,
        "slice_position": torch.rand(size, generator=generator),
        "slice": torch.arange(size),
        "group": torch.zeros(size, dtype=torch.int64),
        "volume": torch.arange(size),
    }


def maker(**options) -> ViewMaker:
    geometry = [Affine(probability=1, rotate_degrees=30), Flip(probability=0.5, axes=[1])]
    intensity = [IntensityShift(probability=1), GaussianNoise(probability=1)]
    return ViewMaker(**({"views": VIEWS, "geometry": geometry, "intensity": intensity} | options))


def test_a_plain_view_is_the_role_and_the_other_view_is_changed():
    role = samples()
    views = maker(plain=["patch"])({"patch": role}, **RUN, positions=range(3))
    for name, tensor in role.items():
        assert views["patch"][name] is tensor
    assert views["patch"]["clean"] is role["image"]
    for sample in range(3):
        assert not torch.equal(views["contrast"]["image"][sample], role["image"][sample])
    assert not torch.equal(views["contrast"]["clean"], role["image"])


def test_a_changed_view_is_the_same_with_and_without_a_plain_one():
    role = samples()
    beside = maker(plain=["patch"])({"patch": role}, **RUN, positions=range(3))["contrast"]
    alone = maker(views={"contrast": "patch"})({"patch": role}, **RUN, positions=range(3))["contrast"]
    for name in alone:
        torch.testing.assert_close(beside[name], alone[name], rtol=0, atol=0, equal_nan=True)


def test_all_views_may_be_plain():
    role = samples()
    views = maker(plain=list(VIEWS))({"patch": role}, **RUN, positions=range(3))
    assert list(views) == list(VIEWS)
    assert all(view["image"] is role["image"] for view in views.values())


def test_a_plain_view_that_is_no_view_is_named():
    with pytest.raises(InputError, match=r"ViewMaker\.plain: names 'segmentation', there are patch, contrast"):
        maker(plain=["segmentation"])


@pytest.mark.parametrize("features", [1, 3, 4, 5])
@pytest.mark.parametrize("roles", [("patch",), ("patch", "partner")])
def test_numbers_of_a_sample_pass_unchanged_whatever_their_number(features, roles):
    """Also where there are as many numbers as samples, rows or columns; roles of one shape are warped together."""
    batch = {role: samples(3, features, seed) for seed, role in enumerate(roles)}
    views = maker(views={role: role for role in roles})(batch, **RUN, positions=range(3))
    for role in roles:
        assert not torch.equal(views[role]["image"], batch[role]["image"])
        for name in ("condition", "slice_position", "slice", "group", "volume"):
            torch.testing.assert_close(views[role][name], batch[role][name], rtol=0, atol=0, equal_nan=True)
            assert views[role][name].dtype == batch[role][name].dtype


def test_a_batch_keeps_the_numbers_of_its_samples():
    flat, nested = samples(), samples(seed=1)
    roles = batch_roles({**flat, "positions": torch.arange(3), "partner": nested}, torch.device("cpu"))
    assert set(roles["patch"]) == set(flat)
    for role, expected in (("patch", flat), ("partner", nested)):
        for name, tensor in expected.items():
            torch.testing.assert_close(roles[role][name], tensor, rtol=0, atol=0, equal_nan=True)
