import nibabel as nib
import numpy as np
import pytest
import torch
from kidney_phantom import LEFT, RAS, RIGHT, inside, phantom, sample, value_at
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd
from scipy.spatial.transform import Rotation
from skimage import measure

from mtmed.errors import InputError
from mtmed.transforms import KidneySidesd, LoadVolumed, SeparableSpacingd
from mtmed.transforms.kidney_sides import kidney_sides

SPACING = (4.0, 4.0, 4.0)
ISTHMUS = ((0.0, -10.0, -30.0), (60.0, 12.0, 14.0))
LOWER_LEFT = ((-55.0, -20.0, -62.0), (28.0, 24.0, 26.0))


def found(*kidneys, shift=0.0, label_only=False, **options):
    """Sides and remarks of a phantom."""
    image, label, affine = phantom(*kidneys, shift=shift)
    data = sample(label.astype(np.float32) if label_only else image, label, affine)
    result = KidneySidesd(**options)(data)
    return result["side"], result["remarks"], result["label"].as_tensor().numpy()[0] > 0


def voxels(side):
    return [int((side == value).sum()) for value in (1, 2)]


@pytest.mark.parametrize("label_only", [False, True])
def test_two_kidneys_get_their_sides(label_only):
    side, remarks, label = found(LEFT, RIGHT, label_only=label_only)
    assert remarks == []
    assert side.dtype == torch.uint8
    assert value_at(side, LEFT[0]) == 1
    assert value_at(side, RIGHT[0]) == 2
    assert np.array_equal(side.as_tensor()[0].numpy() > 0, label)


@pytest.mark.parametrize("label_only", [False, True])
@pytest.mark.parametrize(("kidney", "value", "missing"), [(LEFT, 1, "right"), (RIGHT, 2, "left")])
def test_a_single_kidney_gets_its_side_and_the_other_is_said_to_be_missing(kidney, value, missing, label_only):
    side, remarks, label = found(kidney, label_only=label_only)
    assert np.array_equal(side.as_tensor()[0].numpy(), label * value)
    assert remarks == [f"The {missing} kidney is missing: no component of 10 ml or more is on its side."]


@pytest.mark.parametrize("label_only", [False, True])
@pytest.mark.parametrize("shift", [-60.0, 0.0, 60.0])
def test_a_patient_off_centre_keeps_the_sides(shift, label_only):
    side, remarks, label = found(LEFT, RIGHT, shift=shift, label_only=label_only)
    assert remarks == []
    assert value_at(side, np.add(LEFT[0], (shift, 0, 0))) == 1
    assert value_at(side, np.add(RIGHT[0], (shift, 0, 0))) == 2
    assert np.array_equal(side.as_tensor()[0].numpy() > 0, label)


@pytest.mark.parametrize("label_only", [False, True])
def test_a_horseshoe_kidney_is_left_out_and_named(label_only):
    side, remarks, _ = found(LEFT, RIGHT, ISTHMUS, label_only=label_only)
    assert not side.any()
    (remark,) = remarks
    assert remark.startswith("Both kidneys are left out: a component of ")
    assert "% of its volume beyond the mid-sagittal plane (fused, horseshoe or crossing)." in remark


@pytest.mark.parametrize("label_only", [False, True])
def test_crossed_ectopia_is_left_out_and_named(label_only):
    upper = ((-75.0, -20.0, 45.0), LEFT[1])
    side, remarks, _ = found(upper, LOWER_LEFT, label_only=label_only)
    assert not side.any()
    (remark,) = remarks
    assert "two components of" in remark
    assert "on the left side and none is on the other (crossed, or the plane is wrong)." in remark


def test_a_crossed_fused_kidney_and_a_normal_one_are_both_left_out():
    crossing = ((-10.0, -20.0, 0.0), (45.0, 24.0, 40.0))
    side, remarks, _ = found(crossing, ((110.0, -25.0, 0.0), (25.0, 25.0, 45.0)))
    assert not side.any()
    assert "beyond the mid-sagittal plane" in remarks[0]


def test_a_kidney_that_touches_the_plane_is_kept():
    near = ((-20.0, -20.0, 0.0), LEFT[1])
    side, remarks, label = found(near, RIGHT)
    beyond = label & inside([near], label.shape, side.affine.numpy()) & (np.arange(len(label)) > 55)[:, None, None]
    assert beyond.any()
    assert remarks == []
    assert value_at(side, near[0]) == 1
    assert np.array_equal(side.as_tensor()[0].numpy() > 0, label)


@pytest.mark.parametrize(("share", "kept"), [(0.08, True), (0.12, False)])
def test_a_tenth_beyond_the_plane_decides(share, kept):
    label = np.zeros((100, 20, 20), np.uint8)
    label[10:60] = 1
    middle = 60 - 50 * share - 0.5
    sides, remarks = kidney_sides(label, spacing=(1, 1, 1), mid=middle, minimum_ml=1)
    assert sides.any() == kept
    assert (f"has {share:.0%} of its volume beyond" in remarks[0]) != kept


def test_a_huge_tumour_belongs_to_its_kidney():
    tumour = ((80.0, 20.0, 10.0), (70.0, 60.0, 60.0))
    image, label, affine = phantom(LEFT, RIGHT, tumour)
    label[inside([tumour], label.shape, affine)] = 2
    result = KidneySidesd()(sample(image, label, affine))
    assert result["remarks"] == []
    side = result["side"].as_tensor()[0].numpy()
    assert np.array_equal(side == 2, (label > 0) & (np.arange(len(label)) > 55)[:, None, None])
    assert (side[label == 2] == 2).all()


def test_satellites_are_left_out_and_the_large_ones_named():
    specks = [((-110.0, 30.0, 40.0), (7.0, 7.0, 7.0)), ((110.0, 40.0, 40.0), (8.0, 8.0, 8.0))]
    piece = ((-120.0, 30.0, -30.0), (20.0, 20.0, 24.0))
    side, remarks, _ = found(LEFT, RIGHT, *specks, piece)
    for place, _ in (*specks, piece):
        assert value_at(side, place) == 0
    (remark,) = remarks
    assert remark.startswith("A further component of 4")
    assert "on the left side is left out, since the kidney there has 1" in remark


@pytest.mark.parametrize(("kidneys", "reason"), [([], "nothing is labelled"), ([1], "no component has 10 ml")])
def test_a_case_without_a_kidney_says_so(kidneys, reason):
    side, remarks, _ = found(*[((-70.0, 0.0, 0.0), (9.0, 9.0, 9.0)) for _ in kidneys])
    assert not side.any()
    assert remarks == [f"Both kidneys are left out: {reason}."]


def test_a_wrong_plane_is_noticed():
    label = phantom(LEFT, RIGHT)[1]
    sides, (remark,) = kidney_sides(label, spacing=SPACING, mid=100.0)
    assert not sides.any()
    assert "the plane is wrong" in remark


def test_largest_components_agree_with_skimage():
    generator = np.random.default_rng(3)
    signs = generator.choice([-1, 1], (9, 3))
    blobs = [
        (tuple(place), (14.0, 12.0, 16.0)) for place in generator.uniform([20, 0, 0], [150, 90, 60], (9, 3)) * signs
    ]
    _, label, affine = phantom(*blobs)
    mid = -affine[0, 3] / 4
    sides, _ = kidney_sides(label, spacing=SPACING, mid=mid, minimum_ml=1)
    regions = measure.regionprops(measure.label(label, connectivity=3))
    for value, sign in ((1, -1), (2, 1)):
        largest = max((r for r in regions if sign * (r.centroid[0] - mid) > 0), key=lambda r: r.area)
        expected = np.zeros(label.shape, bool)
        expected[tuple(largest.coords.T)] = True
        assert (sides[expected] == value).mean() == 1
        assert (sides == value).sum() == largest.area


ROTATED = Rotation.from_euler("zyx", [20, -12, 8], degrees=True).as_matrix() * [3.0, 4.0, 5.0]
DIRECTIONS = {
    "RAS": np.diag([4.0, 4.0, 4.0]),
    "LPS": np.diag([-4.0, -3.0, 5.0]),
    "slices first (IPL)": np.array([[0, 0, -2.0], [0, -2.0, 0], [-5.0, 0, 0]]),
    "ASL": np.array([[0, 0, -3.0], [3.0, 0, 0], [0, 5.0, 0]]),
    "oblique": ROTATED,
    "oblique, slices first": -ROTATED[:, ::-1],
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_every_storage_of_a_patient_gives_the_same_sides(name, tmp_path):
    image, label, affine = phantom(LEFT, RIGHT, directions=DIRECTIONS[name], shift=15.0)
    for key, data in (("image", image.astype(np.int16)), ("label", label)):
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{key}.nii.gz")
    keys = ["image", "label"]
    chain = Compose(
        [
            LoadVolumed(keys, require_orientation=True),
            Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            SeparableSpacingd(keys, pixdim=(4.0, 4.0, 4.0), mode=["bilinear", "nearest"]),
            KidneySidesd(),
        ]
    )
    result = chain({key: str(tmp_path / f"{key}.nii.gz") for key in keys})
    assert result["remarks"] == []
    assert value_at(result["side"], np.add(LEFT[0], (15, 0, 0))) == 1
    assert value_at(result["side"], np.add(RIGHT[0], (15, 0, 0))) == 2
    volume = 4 / 3 * np.pi / 1000 * np.array([np.prod(LEFT[1]), np.prod(RIGHT[1])])
    assert np.array(voxels(result["side"])) * 0.064 == pytest.approx(volume, rel=0.08)


def test_mirroring_the_patient_swaps_the_sides():
    image, label, affine = phantom(LEFT, RIGHT)
    straight = KidneySidesd()(sample(image, label, affine))["side"].as_tensor()[0]
    mirrored = KidneySidesd()(sample(image[::-1].copy(), label[::-1].copy(), affine))["side"].as_tensor()[0]
    assert torch.equal(mirrored.flip(0), torch.tensor([0, 2, 1], dtype=torch.uint8)[straight.long()])


def test_axes_that_are_not_ras_are_refused():
    image, label, affine = phantom(LEFT, RIGHT)
    with pytest.raises(
        InputError, match=r"label: is oriented LAS, .*; put Orientationd with axcodes 'RAS' for 'label'"
    ):
        KidneySidesd()(sample(image, label, np.diag([-1.0, 1, 1, 1]) @ affine))
    data = sample(image, label, affine)
    data["image"].affine = torch.tensor([[0, 1.0, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match=r"image: is oriented PRS"):
        KidneySidesd()(data)


def test_a_label_without_affine_is_refused():
    image, label, affine = phantom(LEFT, RIGHT)
    data = sample(image, label, affine) | {"label": torch.from_numpy(label)[None]}
    with pytest.raises(InputError, match="label: has no affine, so that left and right are unknown; load it with"):
        KidneySidesd()(data)


def test_several_channels_are_refused():
    data = {key: MetaTensor(torch.zeros(2, 4, 4, 4), affine=RAS) for key in ("image", "label")}
    with pytest.raises(InputError, match=r"label: has the shape \(2, 4, 4, 4\), expected one channel"):
        KidneySidesd()(data)


def test_remarks_are_appended_to_those_before():
    image, label, affine = phantom(LEFT)
    data = {**sample(image, label, affine), "remarks": ["Said before."]}
    result = KidneySidesd(side_key="half")(data)
    assert result["remarks"][0] == "Said before."
    assert len(result["remarks"]) == 2
    assert data["remarks"] == ["Said before."]
    assert torch.equal(result["half"].affine, data["label"].affine)


def test_options_are_checked():
    with pytest.raises(InputError, match=r"minimum_ml: is -1; give a volume"):
        KidneySidesd(minimum_ml=-1)
    with pytest.raises(ValueError, match="expected H W D"):
        kidney_sides(np.zeros((1, 4, 4, 4)), spacing=SPACING)
