"""Which slice of a case is shown, on any grid."""

import json

import nibabel as nib
import numpy as np
import pytest
from finished_runs import block, write_case
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from mtmed.errors import InputError
from mtmed.organ_masks import organ_values
from mtmed.studies.case_slice import case_row
from mtmed.studies.results import read_case_files
from mtmed.transforms.run_length import encode_run_lengths


def _row(folder, *volumes, organs=("liver",), **options):
    for arm in ("a", "b"):
        write_case(folder / arm, "x", *volumes, {"liver": (2, 7)}, **options)
    files = {arm: read_case_files(folder / arm)["demo/x"] for arm in ("a", "b")}
    return case_row(files, organs, heading="worst", dice={"a": "Dice 0.67"})


def test_slice_with_most_of_the_reference_and_organs_by_number(tmp_path):
    image, reference, prediction, affine = block()
    reference[3, 4, 2:4] = 0  # slices 2 and 3 lose a voxel
    row = _row(tmp_path, image, reference, prediction, affine, organs=("spleen", "liver"))
    assert row.heading == "worst\naxial slice 5 of 6"
    assert np.array_equal(row.image, image[:, :, 4].astype(np.float32))
    assert np.array_equal(row.reference, 2 * (reference[:, :, 4] == 7))
    assert list(row.predictions) == ["a", "b"]
    assert np.array_equal(row.predictions["a"], 2 * (prediction[:, :, 4] == 2))


def test_all_values_of_an_organ_in_the_reference_are_shown_as_one(tmp_path):
    image, reference, prediction, affine = block()
    reference[3, :, :][reference[3] == 7] = 8
    write_case(tmp_path, "x", image, reference, prediction, affine, {"liver": (2, [7, 8])})
    row = case_row({"a": read_case_files(tmp_path)["demo/x"]}, ["liver"], heading="worst", dice={})
    assert np.array_equal(row.reference, reference[:, :, 2] > 0)
    assert np.array_equal(row.predictions["a"], prediction[:, :, 2] == 2)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIL", "SRA", "ALS"])
def test_flipped_turned_and_anisotropic_grids_show_the_same_slice(tmp_path, codes):
    image, reference, prediction, _ = block()
    affine = np.diag([0.5, 1.0, 3.0, 1.0])
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = [nib.orientations.apply_orientation(volume, turn) for volume in (image, reference, prediction)]
    row = _row(tmp_path, *turned, affine @ inv_ornt_aff(turn, image.shape))
    assert np.array_equal(row.image, image[:, :, 2].astype(np.float32))
    assert np.array_equal(row.reference, reference[:, :, 2] == 7)
    assert np.array_equal(row.predictions["b"], prediction[:, :, 2] == 2)
    assert row.spacing == pytest.approx((0.5, 1.0))


def test_oblique_grid_keeps_its_voxels_and_their_spacing(tmp_path):
    image, reference, prediction, _ = block()
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    row = _row(tmp_path, image, reference, prediction, affine @ np.diag([0.8, 1.5, 4.0, 1.0]))
    assert np.array_equal(row.reference, reference[:, :, 2] == 7)
    assert row.spacing == pytest.approx((0.8, 1.5))


def test_empty_reference_shows_most_of_the_predictions_and_nothing_at_all_the_middle(tmp_path):
    image, reference, prediction, affine = block()
    prediction[:, :, 3:] = 0
    prediction[0, 0, 1] = 2
    row = _row(tmp_path / "false", image, np.zeros_like(reference), prediction, affine)
    assert row.heading.endswith("slice 3 of 6")
    assert not row.reference.any()
    row = _row(tmp_path / "none", image, np.zeros_like(reference), np.zeros_like(prediction), affine)
    assert row.heading.endswith("slice 4 of 6")


def test_prediction_on_another_grid_is_brought_to_the_references(tmp_path):
    image, reference, prediction, affine = block()
    write_case(tmp_path, "x", image, reference, prediction, affine, {"liver": (2, 7)})
    moved = affine.copy()
    moved[0, 3] = 2.0  # two voxels cut off on the left
    nib.save(nib.Nifti1Image(prediction[2:], moved), tmp_path / "predictions" / "demo_x_seg.nii.gz")
    row = case_row({"a": read_case_files(tmp_path)["demo/x"]}, ["liver"], heading="", dice={})
    assert np.array_equal(row.predictions["a"], prediction[:, :, 2] == 2)


def test_window_is_the_evaluations_or_that_of_the_surroundings(tmp_path):
    image, reference, prediction, affine = block((60, 60, 6))
    image[50:, :, :] = 3000  # far away
    assert _row(tmp_path / "given", image, reference, prediction, affine, window=(-5, 5)).window == (-5.0, 5.0)
    low, high = _row(tmp_path / "own", image, reference, prediction, affine).window
    assert low >= 0
    assert high < 200


def test_image_on_another_grid_is_brought_to_the_references(tmp_path):
    image, reference, prediction, affine = block()
    plain = _row(tmp_path / "plain", image, reference, prediction, affine)
    write_case(tmp_path, "x", image, reference, prediction, affine, {"liver": (2, 7)})
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = image.shape[0] - 1
    larger = np.eye(4)
    larger[1, 3] = -2
    for stored, grid in ((image[::-1], flipped), (np.pad(image, ((0, 0), (2, 3), (0, 1))), larger)):
        nib.save(nib.Nifti1Image(stored.astype(np.float32), grid), tmp_path / "x_image.nii.gz")
        row = case_row({"a": read_case_files(tmp_path)["demo/x"]}, ["liver"], heading="", dice={})
        assert np.allclose(row.image, plain.image)
        assert np.array_equal(row.reference, plain.reference)


def test_image_that_lies_apart_from_the_reference_is_refused(tmp_path):
    image, *others = block()
    write_case(tmp_path, "x", image, *others, {"liver": (2, 7)})
    apart = np.eye(4)
    apart[0, 3] = 500
    nib.save(nib.Nifti1Image(image.astype(np.float32), apart), tmp_path / "x_image.nii.gz")
    with pytest.raises(InputError, match="shares no part of its field of view"):
        case_row({"a": read_case_files(tmp_path)["demo/x"]}, ["liver"], heading="", dice={})


def test_damaged_prediction_is_named(tmp_path):
    write_case(tmp_path, "x", *block(), {"liver": (2, 7)})
    path = tmp_path / "predictions" / "demo_x_seg.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="demo_x_seg"):
        case_row({"a": read_case_files(tmp_path)["demo/x"]}, ["liver"], heading="", dice={})


def test_overlapping_organs_of_a_folder_of_slices_and_a_table_of_masks_keep_all_their_bits(tmp_path):
    shape = (30, 24, 5)  # columns, rows, slices
    voxels = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    masks = {"stomach": np.zeros(shape, bool), "large_bowel": np.zeros(shape, bool)}
    masks["stomach"][4:12, 3:9, 1:4] = True
    masks["large_bowel"][10:20, 5:15, 3] = True
    scans = tmp_path / "train" / "case1" / "case1_day0" / "scans"
    scans.mkdir(parents=True)
    lines = ["id,class,segmentation"]
    for index in range(shape[2]):
        name = f"slice_{index + 1:04d}_30_24_1.50_2.00.png"
        Image.fromarray(voxels[:, :, index].T).save(scans / name)
        for organ in ("large_bowel", "small_bowel", "stomach"):
            runs = encode_run_lengths(masks[organ][:, :, index].T) if organ in masks else ""
            lines.append(f"case1_day0_slice_{index + 1:04d},{organ},{runs}")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    evaluation = tmp_path / "evaluation"
    (evaluation / "predictions").mkdir(parents=True)
    predicted = (masks["large_bowel"] + 4 * np.roll(masks["stomach"], 1, axis=0)).astype(np.uint8)
    nib.save(
        nib.Nifti1Image(predicted, np.diag([-1.5, -2.0, 3.0, 1.0])),
        evaluation / "predictions" / "uw_case1_day0_seg.nii.gz",
    )
    values = organ_values(["large_bowel", "small_bowel", "stomach"])
    entry = {
        "image": str(scans),
        "reference": str(tmp_path / "train.csv"),
        "organs": {organ: [own, own] for organ, own in values.items()},
        "window": None,
    }
    (evaluation / "cases.json").write_text(json.dumps({"uw/case1_day0": entry}))
    row = case_row({"a": read_case_files(evaluation)["uw/case1_day0"]}, list(values), heading="best", dice={})
    assert row.heading == "best\naxial slice 4 of 5"
    assert row.spacing == pytest.approx((1.5, 2.0))
    # drawn from the right and from the back: columns and rows of the PNG the other way round
    assert np.array_equal(row.image, voxels[::-1, ::-1, 3].astype(np.float32))
    expected = (masks["large_bowel"] + 4 * masks["stomach"])[::-1, ::-1, 3]
    assert sorted(np.unique(expected)) == [0, 1, 4, 5]
    assert np.array_equal(row.reference, expected)
    assert np.array_equal(row.predictions["a"], predicted[::-1, ::-1, 3])
