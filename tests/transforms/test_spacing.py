import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd, Spacingd
from scipy.spatial.transform import Rotation

from mtmed.transforms.spacing import SeparableSpacingd


def grid(*, turn=0.0, spacing=(0.9, 0.8, 2.5), flip=(1, 1, 1)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [turn, turn / 2, -turn]).as_matrix() @ np.diag(spacing) @ np.diag(flip)
    affine[:3, 3] = (11, -7, 3)
    return affine


def sample(affine, shape=(23, 18, 13), channels=1):
    generator = np.random.default_rng(1)
    image = MetaTensor(generator.normal(0, 300, (channels, *shape)).astype(np.float32), affine=torch.as_tensor(affine))
    label = MetaTensor(generator.integers(0, 7, (1, *shape)).astype(np.float32), affine=torch.as_tensor(affine))
    return {"image": image, "label": label}


def both(data, pixdim, modes=("bilinear", "nearest")):
    keys = ["image", "label"]
    return SeparableSpacingd(keys, pixdim=pixdim, mode=modes)(data), Spacingd(keys, pixdim, mode=modes)(data)


def between_two_voxels(before, after):
    """Where a sample lies halfway between two voxels, so that rounding noise of an oblique affine decides."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in after.shape[1:]], indexing="ij"), -1)
    xform = np.linalg.solve(before.affine.numpy(), after.affine.numpy())
    positions = index @ xform[:3, :3].T + xform[:3, 3]
    return torch.as_tensor((np.abs(positions % 1 - 0.5) < 1e-3).any(-1))[None]


PIXDIMS = [(1.5, 1.5, 2.0), (0.45, 0.4, 1.25), (1.8, 1.6, 5.0), (0.9, 0.8, 2.5), (2.7, -1, 1.1), (0.3, 4.0, 2.5)]
AFFINES = {"straight": grid(), "oblique": grid(turn=0.3), "flipped": grid(flip=(-1, 1, -1)), "both": grid(turn=2.0)}


@pytest.mark.parametrize("pixdim", PIXDIMS)
@pytest.mark.parametrize("name", AFFINES)
def test_result_equals_that_of_monai(name, pixdim):
    data = sample(AFFINES[name], channels=2)
    ours, theirs = both(data, pixdim)
    for key in ("image", "label"):
        assert ours[key].shape == theirs[key].shape
        assert ours[key].dtype == theirs[key].dtype
        assert torch.equal(ours[key].affine, theirs[key].affine)
    span = float(theirs["image"].max() - theirs["image"].min())
    assert float((ours["image"] - theirs["image"]).abs().max()) <= 1e-5 * span
    differing = ours["label"].as_tensor() != theirs["label"].as_tensor()
    if name in ("straight", "flipped"):
        assert not differing.any()
    else:
        assert not (differing & ~between_two_voxels(data["label"], ours["label"])).any()


def test_rotation_rounded_to_float32_stays_within_a_thousandth():
    affine = grid(turn=0.7).astype(np.float32).astype(np.float64)
    data = sample(affine)
    ours, theirs = both(data, (1.51, 1.37, 2.11))
    span = float(theirs["image"].max() - theirs["image"].min())
    assert float((ours["image"] - theirs["image"]).abs().max()) <= 1e-3 * span
    differing = ours["label"].as_tensor() != theirs["label"].as_tensor()
    assert not (differing & ~between_two_voxels(data["label"], ours["label"])).any()


def test_sheared_affine_gives_what_monai_gives():
    affine = grid()
    affine[0, 1] = 0.3
    ours, theirs = both(sample(affine), (1.5, 1.5, 2.0))
    assert torch.equal(ours["image"].as_tensor(), theirs["image"].as_tensor())


def test_two_dimensional_images_are_resampled_alike():
    generator = np.random.default_rng(2)
    image = MetaTensor(
        generator.normal(size=(3, 17, 21)).astype(np.float32), affine=torch.diag(torch.tensor([2.0, 1, 1]))
    )
    ours = SeparableSpacingd("image", pixdim=(1.3, 1.7))({"image": image})["image"]
    theirs = Spacingd("image", (1.3, 1.7))({"image": image})["image"]
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor(), atol=1e-5, rtol=0)


def test_linear_ramp_is_reproduced_inside():
    image = MetaTensor(torch.arange(20.0).reshape(1, 20, 1, 1).expand(1, 20, 5, 5).clone(), affine=torch.eye(4))
    out = SeparableSpacingd("image", pixdim=(0.25, 1.0, 1.0))({"image": image})["image"]
    wanted = out.affine[0, 0] * torch.arange(out.shape[1]) + out.affine[0, 3]
    middle = slice(4, -4)
    assert out.affine[0, 0] == pytest.approx(0.25)
    inside = out.as_tensor()[0, middle, 2, 2]
    steps = inside.diff()
    assert torch.allclose(steps, steps.mean().expand_as(steps), atol=1e-5)
    assert float((inside - wanted[middle]).abs().max()) < 0.5


def test_inversion_equals_that_of_monai():
    results = []
    for spacing in (
        SeparableSpacingd(["image", "label"], pixdim=(1.43, 1.37, 2.11), mode=("bilinear", "nearest")),
        Spacingd(["image", "label"], (1.43, 1.37, 2.11), mode=("bilinear", "nearest")),
    ):
        data = sample(grid(turn=0.3, flip=(-1, 1, 1)))
        chain = Compose([Orientationd(["image", "label"], "RAS", labels=None), spacing])
        out = chain(data)
        out["pred"] = out["label"].clone()
        results.append(Invertd("pred", chain, orig_keys="label", nearest_interp=True)(out)["pred"])
    assert results[0].shape == (1, 23, 18, 13)
    assert torch.equal(results[0].as_tensor(), results[1].as_tensor())
    torch.testing.assert_close(results[0].affine, results[1].affine)


def test_missing_keys_are_passed_over_if_allowed():
    data = {"image": sample(grid())["image"]}
    out = SeparableSpacingd(["image", "label"], pixdim=1.5, mode=["bilinear", "nearest"], allow_missing_keys=True)(data)
    assert list(out) == ["image"]
    with pytest.raises(KeyError):
        SeparableSpacingd(["image", "label"], pixdim=1.5)(data)
