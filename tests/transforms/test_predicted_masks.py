"""Masks predicted on the network's grid come out in the right place of the file's."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Activationsd, Compose, Invertd, Orientationd, Resized
from PIL import Image
from scipy import ndimage
from scipy.special import expit

from mtmed.inferers import SliceInferer
from mtmed.organ_masks import packed_names, unpack_masks
from mtmed.transforms import (
    AppendSliceFeaturesd,
    ImageFactsd,
    LoadVolumed,
    PredictedMasksd,
    SaveLabelMapd,
    ScaleSlicesd,
)
from mtmed.transforms.reading import read_volume
from mtmed.transforms.writing import label_map_stem

ORGANS = ("large_bowel", "small_bowel", "stomach")
SIZE = (24, 20)  # of the network's slices: rows, columns


def _oblique(spacing, flips, axes):
    cosine, sine, tilted, tilt = np.cos(0.35), np.sin(0.35), np.cos(0.2), np.sin(0.2)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, tilted, -tilt], [0, tilt, tilted]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag(flips))[:, axes] * np.asarray(spacing)
    affine[:3, 3] = -31.3, 12.7, 5.9
    return affine


# shape and affine of the file: slices are its last, its first, its second axis
FILES = {
    "axial": ((37, 31, 9), _oblique((1.1, 1.3, 3.0), (-1, -1, 1), (0, 1, 2))),
    "slices first and down": ((8, 31, 45), _oblique((5.0, 0.9, 1.7), (1, -1, -1), (2, 1, 0))),
    "slices second": ((33, 7, 40), _oblique((1.2, 4.0, 0.8), (1, 1, 1), (0, 2, 1))),
}


def _phantom(shape, affine):
    """Three boxes, two of which overlap, of different brightness; no two corners of the volume look alike."""
    directions = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    reach = directions.argmax(axis=1)  # of R, A, S among the file's axes
    masks = np.zeros((3, *shape), bool)
    boxes = (
        ((0.1, 0.5), (0.1, 0.5), (0.1, 0.6)),
        ((0.4, 0.8), (0.2, 0.6), (0.3, 0.9)),
        ((0.6, 0.9), (0.7, 0.9), (0, 0.4)),
    )
    for mask, box in zip(masks, boxes, strict=True):
        place = [slice(None)] * 3
        for axis, (low, high) in zip(reach, box, strict=True):
            place[axis] = slice(int(low * shape[axis]), int(high * shape[axis]))
        mask[tuple(place)] = True
    return masks


def _write_stack(folder, voxels, spacing):
    folder.mkdir(parents=True)
    for index in range(voxels.shape[2]):
        width, height = voxels.shape[:2]
        name = f"slice_{index + 1:04d}_{width}_{height}_{spacing[0]:.2f}_{spacing[1]:.2f}.png"
        Image.fromarray(voxels[:, :, index].T).save(folder / name)
    return folder


VALUES = np.array([1, 2, 4, 3, 0], np.uint16)
"""Of no organ, bits 1, 2, 1 + 2 and 4: edges pass over few values of other organs when an image is resized."""


class Steps(torch.nn.Module):
    """Logits of the organs whose values an image shows, scaled to 0..1."""

    def forward(self, slices):
        value = (slices[:, :1] * 4).round()
        organs = (value == 2) | (value == 3), (value == 3) | (value == 4), value == 0
        return 20.0 * torch.cat(organs, 1) - 10.0


def _image(masks):
    return VALUES[(masks * np.array([1, 2, 4])[:, None, None, None]).sum(0)]


class Waves(torch.nn.Module):
    """Smooth logits of an image; passes over planes of metadata."""

    def forward(self, slices):
        value = slices[:, :1] * 7
        return torch.cat([3 * torch.sin(value * (1 + k)) for k in range(3)], 1)


def _chains(tmp_path, *, threshold=0.5):
    preprocessing = Compose(
        [
            LoadVolumed(["image"]),
            Orientationd(["image"], axcodes="SPL", labels=None),
            ImageFactsd("image"),
            Resized(["image"], spatial_size=[-1, *SIZE], mode="trilinear"),
            ScaleSlicesd("image", per="scan"),
            AppendSliceFeaturesd("image", features=["slice_position", "day_number"]),
        ]
    )
    postprocessing = Compose(
        [
            Activationsd("pred", sigmoid=True),
            Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=False),
            PredictedMasksd("pred", threshold=threshold),
            SaveLabelMapd("pred", tmp_path / "out", label_names=packed_names(ORGANS)),
        ]
    )
    return preprocessing, postprocessing


def _run(tmp_path, sources, network, *, workers=0, threshold=0.5):
    """Predict as a bundle does; gives the network's input and the packed map of each case."""
    preprocessing, postprocessing = _chains(tmp_path, threshold=threshold)
    rows = [{"image": [str(source)], "output_name": label_map_stem(source)} for source in sources]
    found = []
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(rows, preprocessing), batch_size=1, num_workers=workers),
        network,
        inferer=SliceInferer(feature_planes=2, batch_size=4),
        postprocessing=postprocessing,
    )
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.extend(engine.state.output))
    evaluator.run()
    return found


@pytest.mark.parametrize("name", FILES)
def test_probabilities_are_interpolated_linearly_between_the_slices_pixels(tmp_path, name):
    shape, affine = FILES[name]
    source = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine), source)
    (found,) = _run(tmp_path, [source], Waves())
    seen = found["image"]
    assert seen.shape == (3, min(shape), *SIZE)
    with torch.no_grad():
        logits = Waves()(seen.as_tensor().transpose(0, 1)).transpose(0, 1)
    place = np.linalg.inv(seen.affine.numpy()) @ read_volume(source).affine
    probabilities = np.stack(
        [
            ndimage.affine_transform(
                expit(one), place[:3, :3], place[:3, 3], output_shape=shape, order=1, mode="nearest"
            )
            for one in logits.double().numpy()
        ]
    )
    written = nib.load(tmp_path / "out" / "scan_seg.nii.gz")
    ours = unpack_masks(np.asanyarray(written.dataobj)[None], 3).astype(bool)
    unclear = np.abs(probabilities - 0.5) < 1e-4
    assert unclear.mean() < 0.01
    assert 0.2 < ours.mean() < 0.8
    assert np.array_equal(ours | unclear, (probabilities > 0.5) | unclear)


@pytest.mark.parametrize("name", FILES)
def test_a_scan_on_any_grid_comes_back_organ_by_organ(tmp_path, name):
    shape, affine = FILES[name]
    masks = _phantom(shape, affine)
    source = tmp_path / "scan.nii.gz"
    image = nib.Nifti1Image(_image(masks).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, source)
    _run(tmp_path, [source], Steps())
    written = nib.load(tmp_path / "out" / "scan_seg.nii.gz")
    assert written.shape == shape
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(written.affine, nib.load(source).affine)
    _alike(np.asanyarray(written.dataobj), masks)


def _dice(masks, others):
    both = (masks & others).sum((1, 2, 3))
    return 2 * both / (masks.sum((1, 2, 3)) + others.sum((1, 2, 3)))


def _alike(packed, masks):
    """Masks agree but for the edges that resizing moves, and agree less if any axis is turned."""
    ours = unpack_masks(packed[None], 3).astype(bool)
    dice = _dice(masks, ours)
    assert dice.min() > 0.8
    for axis in range(1, 4):
        assert _dice(masks, np.flip(ours, axis)).mean() < dice.mean() - 0.2


@pytest.mark.parametrize("workers", [0, 2])
def test_stacks_of_png_slices_of_different_shapes_come_back_on_their_own_grids(tmp_path, workers):
    shapes, spacings = ((30, 44, 8), (41, 25, 6), (33, 33, 1)), ((1.5, 1.5), (1.63, 1.2), (1.5, 1.5))
    folders, cases = [], []
    for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True)):
        masks = _phantom(shape, np.eye(4)) if shape[2] > 1 else _phantom((*shape[:2], 5), np.eye(4))[..., 1:2]
        voxels = _image(masks) * np.uint16(4000)
        folder = tmp_path / "train" / f"case{number}" / f"case{number}_day{number}" / "scans"
        folders.append(_write_stack(folder, voxels, spacing))
        cases.append((masks, spacing))
    _run(tmp_path, folders, Steps(), workers=workers)
    for number, (masks, spacing) in enumerate(cases):
        path = tmp_path / "out" / f"case{number}_day{number}_seg.nii.gz"
        written = SimpleITK.ReadImage(str(path))
        assert written.GetSize() == masks.shape[1:]
        assert written.GetSpacing() == pytest.approx((*spacing, 3.0))
        # columns grow to the left, rows to the back, slices to the head: ITK's own axes
        assert np.allclose(np.reshape(written.GetDirection(), (3, 3)), np.eye(3))
        assert written.GetOrigin() == pytest.approx((0, 0, 0))
        packed = SimpleITK.GetArrayFromImage(written).T
        if masks.shape[3] > 1:
            _alike(packed, masks)
        else:
            assert (packed == 1).sum() > 0
        record = json.loads(path.with_name(f"case{number}_day{number}_seg.json").read_text())
        assert record["image"] == str(folders[number])
        assert record["label_names"]["3"] == "large_bowel + small_bowel"


def test_a_probability_at_the_threshold_is_outside_and_meta_data_stay():
    probabilities = torch.tensor([[0.2, 0.5, 0.500001], [0.9, 0.0, 1.0]]).view(2, 3, 1, 1)
    affine = torch.diag(torch.tensor([3.0, -2.0, -1.0, 1.0], dtype=torch.float64))
    tensor = MetaTensor(probabilities, affine=affine, meta={"filename_or_obj": "scan"})
    packed = PredictedMasksd("pred")({"pred": tensor, "other": 1})
    assert packed["pred"].flatten().tolist() == [2, 0, 3]
    assert packed["pred"].shape == (1, 3, 1, 1)
    assert packed["pred"].dtype == torch.uint8
    assert torch.equal(packed["pred"].affine, affine)
    assert packed["pred"].meta["filename_or_obj"] == "scan"
    assert PredictedMasksd("pred", threshold=0.95)({"pred": probabilities})["pred"].flatten().tolist() == [0, 0, 2]


@pytest.mark.parametrize("name", FILES)
def test_highest_probabilities_are_those_of_the_slices_of_the_file(tmp_path, name):
    shape, affine = FILES[name]
    source = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=shape).astype(np.float32), affine), source)
    (found,) = _run(tmp_path, [source], Waves(), threshold=0.9485)
    across = {"axial": 2, "slices first and down": 0, "slices second": 1}[name]
    highest = np.array(found["pred"].meta["highest_probability"])
    assert highest.shape == (3, shape[across])
    written = np.asanyarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj)
    masks = unpack_masks(np.moveaxis(written, across, 0)[None], 3)
    # a slice has an organ exactly where its highest probability is above the threshold
    assert np.array_equal(highest > 0.9485, masks.any((2, 3)))
    assert 0 < (highest > 0.9485).mean() < 1


def test_highest_probabilities_are_the_largest_of_each_slice():
    probabilities = torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    affine = torch.diag(torch.tensor([1.0, 1.0, -2.0, 1.0], dtype=torch.float64))
    for axis, turned in ((3, affine), (1, affine[[2, 1, 0, 3]]), (2, affine[[0, 2, 1, 3]])):
        found = PredictedMasksd("pred")({"pred": MetaTensor(probabilities, affine=turned)})["pred"]
        expected = probabilities.movedim(axis, 1).flatten(2).amax(2)
        assert torch.equal(torch.tensor(found.meta["highest_probability"]), expected)
    image = PredictedMasksd("pred")({"pred": MetaTensor(probabilities[..., 0])})["pred"]
    assert "highest_probability" not in image.meta


def test_keys_and_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="threshold is 1"):
        PredictedMasksd("pred", threshold=1)
    with pytest.raises(KeyError):
        PredictedMasksd("pred")({})
    assert PredictedMasksd("pred", allow_missing_keys=True)({}) == {}
    with pytest.raises(ValueError, match="9 masks"):
        PredictedMasksd("pred")({"pred": torch.zeros(9, 2, 2)})


@pytest.mark.real
def test_masks_of_real_slices_come_back_on_the_files_of_their_images(real_data, tmp_path):
    folder = real_data / "gi_tract_uwm_2d"
    keys = ["image", "label"]
    preprocessing = Compose(
        [
            LoadVolumed(keys),
            Orientationd(keys, axcodes="SPL", labels=None),
            Resized(keys, spatial_size=[-1, 224, 192], mode=["trilinear", "nearest-exact"]),
        ]
    )
    postprocessing = Compose(
        [
            Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=False),
            PredictedMasksd("pred"),
            SaveLabelMapd("pred", tmp_path, label_names=packed_names(ORGANS)),
        ]
    )
    seen = 0
    for image in sorted((folder / "images").iterdir())[:6]:
        label = folder / "masks" / image.name
        data = preprocessing({"image": str(image), "label": str(label)})
        probabilities = unpack_masks(data["label"].as_tensor(), 3).float()
        postprocessing({**data, "pred": MetaTensor(probabilities).copy_meta_from(data["image"], copy_attr=False)})
        written = np.asanyarray(nib.load(tmp_path / f"{image.stem}_seg.nii.gz").dataobj)
        colours = np.asarray(Image.open(label).convert("RGB")).transpose(1, 0, 2) > 127
        for organ in range(3):
            reference, ours = colours[..., organ], written[..., 0] >> organ & 1
            if reference.sum() > 500:
                seen += 1
                assert 2 * (reference & (ours > 0)).sum() / (reference.sum() + ours.sum()) > 0.95
    assert seen > 6
