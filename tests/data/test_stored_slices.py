"""Scans from files to upright slices: orientation, size, masks and features."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd, Resized
from PIL import Image
from scipy.spatial.transform import Rotation
from torch.nn import functional

from mtmed.data.case import Case
from mtmed.data.crops import CropDataset
from mtmed.data.slice_draws import EverySlice
from mtmed.data.volume_store import VolumeStore
from mtmed.data.whole_volumes import WholeVolumes
from mtmed.metrics import evaluation_cases
from mtmed.organ_masks import pack_masks
from mtmed.transforms import (
    AppendSliceFeaturesd,
    ImageFactsd,
    LoadVolumed,
    ScaleSlicesd,
    encode_run_lengths,
)

KEYS = ["image", "label"]
SLICES, HEIGHT, WIDTH = 5, 12, 18
SIZE = (-1, 8, 8)
FEATURES = ["slice_position", "pixel_height", "pixel_width", "image_height", "image_width", "day_number", "case_number"]


def chain():
    return [
        LoadVolumed(KEYS),
        Orientationd(KEYS, axcodes="SPL", labels=None),
        ImageFactsd(),
        ScaleSlicesd(),
        Resized(KEYS, SIZE, mode=["trilinear", "nearest-exact"]),
    ]


@pytest.fixture(scope="module")
def pixels():
    """Slices as they are shown: rows to the back, columns to the patient's left; three masks that overlap."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 30_000, (SLICES, HEIGHT, WIDTH)).astype(np.uint16)
    image[2] = 700
    masks = np.zeros((3, SLICES, HEIGHT, WIDTH), bool)
    masks[0, 1:, 2:6, 3:15] = masks[1, 2:4, 4:9, 8:17] = masks[2, 3, 1:5, 1:9] = True
    return image, masks


@pytest.fixture(scope="module")
def stack(pixels, tmp_path_factory):
    """A case in the layout of UW-Madison: pixels 1.5 mm wide and 2.25 mm high."""
    image, masks = pixels
    root = tmp_path_factory.mktemp("train")
    folder = root / "case7" / "case7_day20" / "scans"
    folder.mkdir(parents=True)
    rows = ["id,class,segmentation"]
    for index in range(SLICES):
        Image.fromarray(image[index]).save(folder / f"slice_{index + 1:04}_{WIDTH}_{HEIGHT}_1.50_2.25.png")
        for organ, mask in zip(("large_bowel", "small_bowel", "stomach"), masks[:, index], strict=True):
            rows.append(f"case7_day20_slice_{index + 1:04},{organ},{encode_run_lengths(mask)}")
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    metadata = {"case_number": 7, "day_number": 20}
    return Case("case7_day20", (str(folder),), str(root / "train.csv"), "case7", "uw", metadata=metadata)


@pytest.fixture(scope="module")
def volumes(stack, tmp_path_factory):
    return VolumeStore(tmp_path_factory.mktemp("store"), transforms=chain()).build([stack])


def resized(pixels):
    """The slices one by one, by torch and by the plain formula of the nearest pixel."""
    image, masks = pixels
    images = []
    for pixel in image.astype(np.float32):
        spread = pixel.max() - pixel.min()
        scaled = torch.from_numpy((pixel - pixel.min()) / (spread or 1))
        images.append(functional.interpolate(scaled[None, None], SIZE[1:], mode="bilinear", align_corners=False)[0, 0])
    rows, columns = (((np.arange(8) + 0.5) * length / 8).astype(int) for length in (HEIGHT, WIDTH))
    return torch.stack(images).numpy(), pack_masks(masks)[0][:, rows][:, :, columns]


def test_a_stored_slice_is_the_slice_of_the_file_after_resizing(volumes, pixels):
    images, labels = resized(pixels)
    assert volumes[0].shape == (SLICES, 8, 8)
    data = CropDataset(volumes, EverySlice(slice_offsets=[-1, 0]), seed=0, global_batch_size=1, features=FEATURES)
    samples = [data[step, 0] for step in range(SLICES)]
    assert sorted(sample["slice"] for sample in samples) == list(range(SLICES))
    for sample in samples:
        index = sample["slice"]
        np.testing.assert_allclose(sample["image"][1], images[index], atol=2e-5)
        np.testing.assert_allclose(sample["image"][0], images[max(index - 1, 0)], atol=2e-5)
        np.testing.assert_array_equal(sample["label"][0], labels[index])
        assert sample["condition"].tolist() == pytest.approx([index / 4, 2.25, 1.5, HEIGHT, WIDTH, 20, 7])
    assert volumes[0].classes == tuple(np.unique(labels))
    assert 3 in volumes[0].classes, "of two masks that overlap"


def test_whole_volumes_and_evaluation_get_the_same_planes(volumes, stack):
    stored = WholeVolumes(volumes, features=FEATURES)[0]
    data = {**evaluation_cases([stack])[0], "label": stack.label}
    read = Compose([*chain(), AppendSliceFeaturesd(features=FEATURES)])(data)
    assert read["image"].shape == stored["image"].shape == (1 + len(FEATURES), SLICES, 8, 8)
    np.testing.assert_allclose(read["image"].numpy(), stored["image"], atol=2e-5)
    samples = CropDataset(volumes, EverySlice(), seed=0, global_batch_size=1, features=FEATURES)
    for sample in (samples[step, 0] for step in range(SLICES)):
        planes = stored["image"][1:, sample["slice"]]
        np.testing.assert_array_equal(planes, sample["condition"][:, None, None].expand_as(planes))
    assert read["image"].affine.shape == (4, 4)
    assert WholeVolumes(volumes)[0]["image"].shape == (1, SLICES, 8, 8)


def test_what_is_not_known_of_a_case_is_nan_in_its_planes(stack):
    data = {"image": stack.image[0], "label": stack.label}
    read = Compose([*chain(), AppendSliceFeaturesd(features=["day_number", "pixel_width"])])(data)
    assert read["image"][1].isnan().all()
    assert (read["image"][2] == 1.5).all()


AXES = ["".join(axes) for pairs in itertools.permutations(("LR", "PA", "IS")) for axes in itertools.product(*pairs)]


@pytest.mark.parametrize("axes", AXES[::5])
@pytest.mark.parametrize("angles", [(0, 0, 0), (17, -12, 20)])
def test_slices_stand_upright_whatever_the_axes_of_the_file(pixels, tmp_path, axes, angles):
    """The same voxels in mm, kept in another order and direction of the axes, of a straight or oblique scan."""
    image, masks = pixels
    spacing = np.array([3.0, 2.25, 1.5])  # of slices, rows, columns
    towards = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]])  # columns S, P, L in RAS+
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ towards * spacing
    affine[:3, 3] = [12, -40, 7]
    order = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(tuple("SPL")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    for name, voxels in (("image", image.astype(np.int16)), ("label", pack_masks(masks)[0])):
        turned = nib.Nifti1Image(voxels, affine).as_reoriented(order)
        assert nib.aff2axcodes(turned.affine) == tuple(axes)
        nib.save(turned, tmp_path / f"{name}.nii.gz")
    loaded = Compose(chain()[:3])({"image": str(tmp_path / "image.nii.gz"), "label": str(tmp_path / "label.nii.gz")})
    np.testing.assert_array_equal(loaded["image"][0], image)
    np.testing.assert_array_equal(loaded["label"][0], pack_masks(masks)[0])
    expected = {"pixel_height": 2.25, "pixel_width": 1.5, "image_height": HEIGHT, "image_width": WIDTH}
    assert loaded["facts"] == pytest.approx(expected, rel=1e-5)
