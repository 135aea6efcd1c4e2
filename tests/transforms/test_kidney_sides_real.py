"""Left and right in real patients: 27 label maps of KiTS19 (slices first, no CT) and a CT with organs of known side."""

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, Orientationd

from mtmed.transforms import BodyHalvesd, KidneySidesd, LoadVolumed, SeparableSpacingd
from mtmed.transforms.body import body_mask, grid_middle, median_index
from mtmed.transforms.reading import read_volume

pytestmark = pytest.mark.real

KEYS = ["image", "label"]
SPACING = (1.62, 1.62, 3.22)
REGION = (112, 112, 64)
CASES = (
    *("00004", "00007", "00015", "00021", "00023", "00037", "00039", "00041", "00045", "00061", "00076", "00087"),
    *("00094", "00108", "00110", "00113", "00122", "00125", "00129", "00135", "00137", "00139", "00147", "00148"),
    *("00161", "00176", "00206"),
)
# millilitres, and the side that the CT slices of these cases show it on, opposite to liver or spleen
TUMOURS = {"00135": (565, 1), "00139": (982, 2)}
LIVER, RIGHT_KIDNEY, LEFT_KIDNEY, CORD, LIVER_SIDE = 5, 2, 3, 79, 2


def load(image: Path, label: Path, *more):
    chain = [
        LoadVolumed(KEYS, keep_integers=True, require_orientation=True),
        Orientationd(KEYS, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        *more,
    ]
    return Compose(chain)({"image": str(image), "label": str(label)})


@pytest.mark.parametrize("case", CASES)
def test_both_kidneys_of_each_label_map_are_found_on_their_side(real_data: Path, case: str) -> None:
    file = real_data / "kits19_segmentations" / f"case_{case}" / "segmentation.nii.gz"
    spacing = SeparableSpacingd(KEYS, pixdim=SPACING, mode=["bilinear", "nearest"])
    result = load(file, file, spacing, KidneySidesd())
    assert result["remarks"] == []
    label, side = (result[key].as_tensor()[0].numpy() for key in ("label", "side"))
    assert (side > 0).sum() > 0.999 * (label > 0).sum()
    assert not (side[label == 0]).any()
    volume = read_volume(file)
    places = np.argwhere(volume.data[:: max(1, len(volume.data) // 60)] > 0) * [max(1, len(volume.data) // 60), 1, 1]
    x = places @ volume.affine[0, :3] + volume.affine[0, 3]  # mm to the right, straight from the file
    for value, beside in ((1, x < np.median([x.min(), x.max()])), (2, x > np.median([x.min(), x.max()]))):
        indices = np.argwhere(side == value)
        found = indices[:, 0].mean() * SPACING[0] + float(result["side"].affine[0, 3])
        assert found == pytest.approx(x[beside].mean(), abs=3)
        assert all(np.ptp(indices, axis=0) + 1 <= REGION)
    if case in TUMOURS:
        millilitres, tumour_side = TUMOURS[case]
        assert (label == 2).sum() * np.prod(SPACING) / 1000 == pytest.approx(millilitres, rel=0.02)
        assert (side[label == 2] == tumour_side).mean() > 0.999


def test_a_label_map_at_full_resolution_gives_the_same(real_data: Path) -> None:
    file = real_data / "kits19_segmentations" / "case_00041" / "segmentation.nii.gz"
    side = load(file, file, KidneySidesd())["side"].as_tensor()[0].numpy()
    coarse = load(file, file, SeparableSpacingd(KEYS, pixdim=SPACING, mode="nearest"), KidneySidesd())["side"]
    for value in (1, 2):
        litres = (side == value).sum() * 3 * 0.677734**2
        assert (coarse == value).sum().item() * np.prod(SPACING) == pytest.approx(litres, rel=0.02)


def test_a_real_ct_has_kidneys_and_liver_on_their_sides(real_data: Path) -> None:
    folder = real_data / "totalseg_ct"
    result = load(folder / "example_ct.nii.gz", folder / "example_seg_fast_force_split.nii.gz")
    organs = result["label"].as_tensor()[0].numpy()
    result["label"] = ((result["label"] == LEFT_KIDNEY) | (result["label"] == RIGHT_KIDNEY)).float()
    result = BodyHalvesd(side_key="half")(KidneySidesd()(result))
    side = result["side"].as_tensor()[0].numpy()
    assert result["remarks"] == []
    assert np.array_equal(side == 1, organs == LEFT_KIDNEY)
    assert np.array_equal(side == 2, organs == RIGHT_KIDNEY)
    half = result["half"].as_tensor()[0].numpy()
    assert (half[organs == LEFT_KIDNEY] == 1).all()
    assert (half[organs == RIGHT_KIDNEY] == 2).all()
    assert (half[organs == LIVER] == LIVER_SIDE).mean() > 0.8
    image = result["image"].as_tensor()[0].numpy()
    middle = median_index(body_mask(image, spacing=(3.0, 3.0, 3.0)))
    cord = np.argwhere(organs == CORD)[:, 0].mean()
    assert abs(middle - cord) * 3 < 3 < abs(grid_middle(image.shape) - cord) * 3
