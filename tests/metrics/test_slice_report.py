"""The report on slices: scans of PNG slices with a table of masks, and label maps with their slices across any axis."""

import csv
import json
import logging
import math

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from PIL import Image

from mtmed.data.manifest import load_cohort
from mtmed.errors import InputError
from mtmed.metrics import SliceReport, evaluation_cases, image_auc, score_slices
from mtmed.metrics.case_report import read_reference
from mtmed.organ_masks import organ_values, pack_masks, unpack_masks
from mtmed.transforms import PredictedMasksd
from mtmed.transforms.run_length import encode_run_lengths

ORGANS = ("large_bowel", "small_bowel", "stomach")
WIDTH, HEIGHT = 14, 10
VALUES = {name: (values, values) for name, values in organ_values(ORGANS).items()}


def _masks(seed, slices):
    """Overlapping blocks of each organ, K D H W; the first and last slice are empty."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((3, slices, HEIGHT, WIDTH), bool)
    for mask in masks:
        top, left = generator.integers(0, 4, 2)
        mask[1:-1, top : top + 5, left : left + 7] = True
    return masks


def _write_scan(folder, scan, masks, table):
    scans = folder / scan.split("_")[0] / scan / "scans"
    scans.mkdir(parents=True)
    for index in range(masks.shape[1]):
        name = f"{scan}_slice_{index + 1:04d}"
        grey = (100 + 50 * masks[:, index].sum(0)).astype(np.uint16)
        Image.fromarray(grey).save(scans / f"slice_{index + 1:04d}_{WIDTH}_{HEIGHT}_1.50_2.00.png")
        table += [(name, organ, encode_run_lengths(masks[k, index])) for k, organ in enumerate(ORGANS)]
    return f"{scans.relative_to(folder)}"


@pytest.fixture
def cohort(tmp_path):
    """Three scans of two patients; masks are in one table."""
    folder, table, rows = tmp_path / "uw", [("id", "class", "segmentation")], []
    for seed, scan in enumerate(("case1_day0", "case1_day8", "case2_day3")):
        image = _write_scan(folder, scan, _masks(seed, 5 + seed), table)
        rows.append({"image": image, "label": "train.csv", "id": scan, "patient": scan.split("_")[0]})
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    labels = {"0": "background", "1": "large_bowel", "2": "small_bowel", "4": "stomach"}
    content = {"name": "Toy", "modality": {"0": "MR"}, "labels": labels, "overlapping": True, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_cohort(folder)


def _predicted(masks):
    """Masks of an imperfect network: the small bowel one column too far, no stomach in the upper half."""
    predicted = masks.copy()
    predicted[1] = np.roll(masks[1], 1, axis=2)
    predicted[2, masks.shape[1] // 2 :] = False
    return predicted


def _on_network_grid(masks):
    """Packed masks D H W with the axes S, P, L, as the network sees them."""
    affine = torch.zeros(4, 4, dtype=torch.float64)
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 3.0, -2.0, -1.5, 1.0
    return MetaTensor(torch.from_numpy(pack_masks(masks)), affine=affine)


def _moved(slices):
    matrix = np.eye(4)
    matrix[0, 3] = slices
    return matrix


def _run(cohort, out, predictions, **options):
    options = {"organs": ORGANS, "overlays": False, **options}
    report = SliceReport(cohort=cohort, cases=cohort.cases, output_dir=out, **options)
    engine = Engine(lambda engine, rows: [{"pred": predictions[row["case"]]} for row in rows])
    report.attach(engine)
    engine.run([[row] for row in evaluation_cases(cohort.cases)])
    return report


def _table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scans_are_scored_on_their_own_grid_against_the_table(cohort, tmp_path, caplog):
    masks = {case.key: _masks(seed, 5 + seed) for seed, case in enumerate(cohort.cases)}
    predictions = {key: _on_network_grid(_predicted(own)) for key, own in masks.items()}
    with caplog.at_level(logging.INFO, "mtmed"):
        report = _run(cohort, tmp_path / "out", predictions, protocol={"part": "validation"})
    expected = []
    for case in cohort.cases:
        own = masks[case.key]
        packed = pack_masks(_predicted(own))[0], pack_masks(own)[0]
        known = {"dataset": "Toy", "case": case.id, "group": case.group}
        expected += score_slices(*packed, VALUES, **known)[0]
    assert report.scores == expected
    rows = _table(tmp_path / "out" / "scores.csv")
    assert [(row["case"], row["organ"]) for row in rows] == [(one.case, one.organ) for one in expected]
    assert [float(row["slice_dice"]) for row in rows] == pytest.approx([one.slice_dice for one in expected])
    assert [row["slice_dice"] for row in rows[::3]] == ["1.0"] * 3
    slices = _table(tmp_path / "out" / "slices.csv")
    assert len(slices) == 3 * (5 + 6 + 7)
    assert (slices[0]["slice"], slices[0]["dice"], slices[1]["dice"]) == ("1", "", "1.0")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["cases"], summary["patients"], summary["slices"]) == (3, 2, 18)
    assert (summary["protocol"]["part"], summary["protocol"]["empty"]) == ("validation", "nan")
    assert summary["pooled"]["organs"]["large_bowel"]["competition_score"]["mean"] == pytest.approx(1)
    assert "18 slices of 3 scans of 2 patients" in caplog.text
    assert "competition score" in caplog.text


def test_files_of_the_cases_list_all_values_of_an_organ_on_both_sides(cohort, tmp_path):
    predictions = {case.key: _on_network_grid(_masks(seed, 5 + seed)) for seed, case in enumerate(cohort.cases)}
    _run(cohort, tmp_path / "out", predictions, overlays=True)
    listed = json.loads((tmp_path / "out" / "cases.json").read_text())
    entry = listed["Toy/case1_day8"]
    assert entry["organs"]["small_bowel"] == [[2, 3, 6, 7], [2, 3, 6, 7]]
    assert entry["image"].endswith("case1/case1_day8/scans")
    assert entry["reference"].endswith("train.csv")
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [
        f"Toy_{case.id}.png" for case in cohort.cases
    ]
    reference = read_reference(entry["reference"], entry["image"])
    np.testing.assert_array_equal(reference.data.transpose(2, 1, 0), pack_masks(_masks(1, 6))[0])
    assert reference.spacing == (1.5, 2.0, 3.0)


def test_overlays_have_overlapping_organs_in_the_networks_values(cohort, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "mtmed.metrics.case_report.save_overlay",
        lambda path, image, label, predicted, spacing, names, **_: drawn.update({path.name: (label, predicted, names)}),
    )
    masks = {case.key: _masks(seed, 5 + seed)[::-1] for seed, case in enumerate(cohort.cases)}
    # the network numbers the organs the other way round
    predictions = {key: _on_network_grid(own) for key, own in masks.items()}
    _run(cohort, tmp_path / "out", predictions, organs=ORGANS[::-1], overlays=True)
    label, predicted, names = drawn["Toy_case2_day3.png"]
    np.testing.assert_array_equal(label, predicted)
    assert names[3] == "stomach + small_bowel"
    # axes are turned to R, A, S
    upright = label[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(unpack_masks(upright[None].astype(np.uint8), 3), masks["Toy/case2_day3"])


def test_voxels_of_a_joined_label_count_for_each_of_its_organs(tmp_path):
    masks = _masks(0, 6)
    masks[2] &= ~(masks[0] | masks[1])
    assert (masks[0] & masks[1]).any()
    values = np.array([0, 4, 2, 9, 7], np.uint8)  # of background, large bowel, small bowel, both, stomach
    labels = values[pack_masks(masks)[0]].transpose(2, 1, 0)
    for name in ("image", "label"):
        nib.Nifti1Image(labels, np.diag([-1.5, -2.0, 3.0, 1.0])).to_filename(tmp_path / f"{name}.nii.gz")
    names = {"2": "small_bowel", "4": "large_bowel", "7": "stomach", "9": "large_bowel + small_bowel"}
    rows = [{"image": "image.nii.gz", "label": "label.nii.gz", "id": "c"}]
    labels = {"0": "background", **names}
    content = {"name": "Toy", "modality": {"0": "MR"}, "labels": labels, "training": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cohort = load_cohort(tmp_path)
    known = {"dataset": "Toy", "case": "c", "group": "c"}
    report = _run(cohort, tmp_path / "out", {"Toy/c": _on_network_grid(_predicted(masks))})
    assert report.organs["Toy"]["large_bowel"] == ((1, 3, 5, 7), (4, 9))
    assert report.scores == score_slices(pack_masks(_predicted(masks))[0], pack_masks(masks)[0], VALUES, **known)[0]


def _probabilities(masks, generator):
    """Probabilities of each organ, above a half in its masks, K D H W."""
    return torch.from_numpy(np.where(masks, 0.5, 0.0) + 0.5 * generator.uniform(0.01, 0.99, masks.shape))


def test_highest_probabilities_of_predicted_masks_reach_slices_and_summary(cohort, tmp_path, caplog):
    generator, predictions, highest = np.random.default_rng(5), {}, {}
    for seed, case in enumerate(cohort.cases):
        probabilities = _probabilities(_predicted(_masks(seed, 5 + seed)), generator)
        affine = _on_network_grid(_masks(seed, 5 + seed)).affine
        data = PredictedMasksd("pred")({"pred": MetaTensor(probabilities, affine=affine)})
        predictions[case.key], highest[case.id] = data["pred"], probabilities.amax((2, 3)).numpy()
    with caplog.at_level(logging.INFO, "mtmed"):
        report = _run(cohort, tmp_path / "out", predictions)
    rows = _table(tmp_path / "out" / "slices.csv")
    for row in rows:
        expected = highest[row["case"]][ORGANS.index(row["organ"]), int(row["slice"]) - 1]
        assert float(row["highest_probability"]) == pytest.approx(expected)
        assert (float(row["highest_probability"]) > 0.5) == (int(row["prediction_voxels"]) > 0)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for organ, found in summary["image_auc"].items():
        own = [one for one in report.slices if one.organ == organ]
        positive = [one.reference_voxels > 0 for one in own]
        expected = image_auc([one.highest_probability for one in own], positive, [one.group for one in own])
        assert (found["value"], found["positives"], found["negatives"]) == (expected.value, 12, 6)
    assert [summary["image_auc"][organ]["value"] == 1 for organ in ORGANS] == [True, True, False]
    assert "image AUC" in caplog.text


def test_maps_without_probabilities_leave_their_cells_empty(cohort, tmp_path):
    predictions = {case.key: _on_network_grid(_masks(seed, 5 + seed)) for seed, case in enumerate(cohort.cases)}
    _run(cohort, tmp_path / "out", predictions)
    assert {row["highest_probability"] for row in _table(tmp_path / "out" / "slices.csv")} == {""}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["image_auc"]["stomach"] == {
        **dict.fromkeys(("value", "low", "high")),
        **dict.fromkeys(("positives", "negatives", "n_patients"), 0),
    }


@pytest.mark.parametrize("axes", ["RAS", "SPL", "LIP"])
def test_slices_lie_across_the_axis_to_the_head_in_any_file(tmp_path, axes):
    masks = _masks(0, 6)
    masks[1] &= ~masks[0]
    labels = (5 * masks[0] + 2 * masks[1]).astype(np.uint8).transpose(2, 1, 0)
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
    turned = nib.orientations.apply_orientation(labels, turn)
    own = affine @ inv_ornt_aff(turn, labels.shape)
    for name in ("image", "label"):
        nib.Nifti1Image(turned, own).to_filename(tmp_path / f"{name}.nii.gz")
    names = {"0": "background", "2": "Small_Bowel", "5": "large_bowel"}
    rows = [{"image": "image.nii.gz", "label": "label.nii.gz", "id": "c"}]
    content = {"name": "Toy", "modality": {"0": "MR"}, "labels": names, "training": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cohort = load_cohort(tmp_path)
    predicted = _on_network_grid(_predicted(masks))
    # the network saw all slices but the lowest
    predicted = MetaTensor(predicted.as_tensor()[:, 1:], affine=predicted.affine @ torch.from_numpy(_moved(1)))
    predicted.meta["highest_probability"] = [[k + slice / 10 for slice in range(5)] for k in range(3)]
    report = _run(cohort, tmp_path / "out", {"Toy/c": predicted})
    up = [math.nan, 0.0, 0.1, 0.2, 0.3, 0.4]
    highest = [one.highest_probability for one in report.slices if one.organ == "large_bowel"]
    np.testing.assert_allclose(highest, up if axes != "LIP" else up[::-1])
    expected = score_slices(
        pack_masks(_predicted(masks))[0],
        pack_masks(masks)[0],
        {organ: VALUES[organ] for organ in ORGANS[:2]},
        dataset="Toy",
        case="c",
        group="c",
    )[0]
    assert [(one.organ, one.slices) for one in report.scores] == [("large_bowel", 6), ("small_bowel", 6)]
    for found, wanted in zip(report.scores, expected, strict=True):
        assert (found.slice_dice, found.dice) == pytest.approx((wanted.slice_dice, wanted.dice))
        assert found.hausdorff == pytest.approx(wanted.hausdorff)


def test_unknown_rules_and_data_without_the_organs_are_refused(cohort, tmp_path):
    with pytest.raises(InputError, match="empty: is 'skip'; choose 'nan', 'zero' or 'one'"):
        _run(cohort, tmp_path / "out", {}, empty="skip")
    with pytest.raises(InputError, match="Toy: labels large_bowel, small_bowel, stomach, the network liver"):
        _run(cohort, tmp_path / "out", {}, organs=["liver"])
