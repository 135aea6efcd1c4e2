"""The report on organs: labels merged by name, and the scores that its table shows."""

import csv
import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from mtmed.data.manifest import load_cohort
from mtmed.errors import InputError
from mtmed.metrics import EvaluationReport, evaluation_cases, score_masks
from mtmed.studies.results import read_case_files, read_scores

SHAPE = (16, 14, 10)
NAMES = {"0": "background", "1": "kidney"}
GROUPS = {"kidney": ["kidney", "tumour", "Left Kidney"]}
SPACING = (2.0, 1.0, 1.5)


def _dataset(folder, name, labels, values):
    """Two cases with a kidney of two blocks, each of its own label value, and one of a label of no group."""
    folder.mkdir()
    rows = []
    for case in range(2):
        reference = np.zeros(SHAPE, np.uint8)
        reference[2:7, 3:9, 2:6] = values[0]
        reference[7 : 9 + case, 3:9, 2:6] = values[1]
        reference[12:14, 2:5, 2:5] = values[2]
        for part, data in (("image", reference * 50.0), ("label", reference)):
            nib.Nifti1Image(data, np.diag([*SPACING, 1])).to_filename(folder / f"{case}_{part}.nii.gz")
        rows.append({"image": f"{case}_image.nii.gz", "label": f"{case}_label.nii.gz", "id": f"c{case}"})
    content = {"name": name, "modality": {"0": "CT"}, "labels": labels, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def cohort(tmp_path):
    """Two data sets that call the parts of a kidney differently."""
    kits = {"0": "background", "1": "kidney", "2": "Tumour", "3": "cyst"}
    other = {"0": "background", "4": "left kidney", "6": "tumour", "2": "spleen"}
    return load_cohort(
        [_dataset(tmp_path / "a", "Kits", kits, (1, 2, 3)), _dataset(tmp_path / "b", "Other", other, (4, 6, 2))]
    )


def predictions(cohort):
    """Kidney and tumour as one organ, one voxel too far along the first axis."""
    found = {}
    for case in cohort.cases:
        reference = np.asarray(nib.load(case.label).dataobj)
        merged = np.isin(reference, (1, 2) if case.dataset == "Kits" else (4, 6))
        found[case.key] = np.roll(merged, 1, axis=0)
    return found


def evaluate(cohort, out, **options):
    report = EvaluationReport(
        cohort=cohort, cases=cohort.cases, label_names=NAMES, output_dir=out, **{"overlays": False, **options}
    )
    predicted = predictions(cohort)

    def step(engine, rows):
        affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
        return [{"pred": MetaTensor(torch.from_numpy(predicted[row["case"]][None] * 1), affine=affine)} for row in rows]

    engine = Engine(step)
    report.attach(engine)
    engine.run([[row] for row in evaluation_cases(cohort.cases)])
    return report


def test_merged_labels_are_scored_as_one_organ(cohort, tmp_path):
    report = evaluate(cohort, tmp_path / "out", label_groups=GROUPS)
    predicted = predictions(cohort)
    assert len(report.scores) == 4
    for score in report.scores:
        prediction = predicted[f"{score.dataset}/{score.case}"]
        reference = np.roll(prediction, -1, axis=0)
        assert (score.dice, score.hd95, score.surface_dice) == score_masks(prediction, reference, SPACING)
        assert score.organ == "kidney"
        assert score.boundary_difference == 0
        assert 0 < score.dice < 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["protocol"]["label_groups"] == GROUPS


def test_files_of_the_cases_list_all_values_of_an_organ_and_studies_read_them(cohort, tmp_path):
    evaluate(cohort, tmp_path / "out", label_groups=GROUPS, overlays=True)
    listed = json.loads((tmp_path / "out" / "cases.json").read_text())
    assert [entry["organs"]["kidney"] for entry in listed.values()] == [[1, [1, 2]]] * 2 + [[1, [4, 6]]] * 2
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 4
    files = read_case_files(tmp_path / "out")
    assert [one.organs["kidney"] for one in files.values()] == [(1, (1, 2))] * 2 + [(1, (4, 6))] * 2


def test_without_groups_labels_are_scored_as_they_are(cohort, tmp_path):
    kits = load_cohort(tmp_path / "a")
    report = evaluate(kits, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "cases.json").read_text())["Kits/c0"]["organs"] == {"kidney": [1, 1]}
    assert all(score.reference_ml == pytest.approx(5 * 6 * 4 * 3 / 1000) for score in report.scores)
    assert "label_groups" not in json.loads((tmp_path / "out" / "summary.json").read_text())["protocol"]
    with pytest.raises(InputError, match="Other: labels spleen, left kidney, tumour, the network kidney"):
        evaluate(cohort, tmp_path / "out")


def test_table_and_summary_have_the_scores_that_are_asked_for(cohort, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mtmed"):
        evaluate(cohort, tmp_path / "out", label_groups=GROUPS, metrics=["boundary_difference", "dice"])
        evaluate(cohort, tmp_path / "usual", label_groups=GROUPS)
    asked, usual = (record.message for record in caplog.records if "mean (95 %" in record.message)
    assert "organ   boundary difference     Dice " in asked
    assert "surface Dice" not in asked
    assert "boundary" not in usual
    kidney = json.loads((tmp_path / "out" / "summary.json").read_text())["organs"]["kidney"]
    assert kidney["boundary_difference"]["mean"] == 0
    assert "hd95" not in kidney
    with (tmp_path / "usual" / "scores.csv").open(newline="") as file:
        assert {"dice", "hd95", "surface_dice", "boundary_difference"} <= set(next(csv.reader(file)))
    scores = read_scores(tmp_path / "usual" / "scores.csv", ["boundary_difference"])
    assert [score.values["boundary_difference"] for score in scores] == [0] * 4


def test_unknown_metrics_and_data_sets_without_a_group_are_refused(cohort, tmp_path):
    for metrics, problem in ((["dice", "hd"], "asks for 'hd'; choose from dice, hd95, "), ([], "is empty")):
        with pytest.raises(InputError, match=problem):
            evaluate(cohort, tmp_path / "out", label_groups=GROUPS, metrics=metrics)
    with pytest.raises(InputError, match="Other"):
        evaluate(cohort, tmp_path / "out", label_groups={"kidney": ["kidney"]})
