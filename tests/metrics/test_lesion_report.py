"""The report on lesions: against each rater, on the grid of each label map, and averaged."""

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
from scipy import ndimage

from mtmed.data.manifest import load_cohort
from mtmed.errors import InputError
from mtmed.metrics import (
    LesionReport,
    RaterScore,
    cohort_isbi_score,
    evaluation_cases,
    lesion_table,
    score_lesions,
    summarise_lesions,
    volume_correlation,
    write_lesion_report,
)

SHAPE = (20, 24, 16)
NAMES = {"0": "background", "1": "lesion"}
GRIDS = {
    "LPI": np.array([[-1.0, 0, 0, 9], [0, -0.9, 0, 8], [0, 0, -1.2, 7], [0, 0, 0, 1]]),
    "oblique": np.array([[0.95, 0.1, 0, -4], [-0.1, 1.0, 0.05, 2], [0, -0.05, 1.4, 3], [0, 0, 0, 1]]),
    "RAS": np.diag([1.0, 1.0, 3.0, 1.0]),
}


def _lesions(seed, share=0.05):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.2)
    return noise > np.quantile(noise, 1 - share)


def _cohort(folder, *, raters=2, empty=(), value=1, dtype=np.uint8):
    """Three patients on three grids; the second rater marks less than the first."""
    rows = []
    for index, affine in enumerate(GRIDS.values()):
        first = _lesions(index) & (index not in empty)
        masks = [first, first & _lesions(index, 0.03)][:raters]
        image = np.random.default_rng(index).normal(100, 10, SHAPE).astype(np.float32) + 60 * first
        nib.Nifti1Image(image, affine).to_filename(folder / f"{index}_flair.nii.gz")
        paths = [f"{index}_mask{rater + 1}.nii.gz" for rater in range(raters)]
        for path, mask in zip(paths, masks, strict=True):
            nib.Nifti1Image((mask * value).astype(dtype), affine).to_filename(folder / path)
        rows.append({"image": f"{index}_flair.nii.gz", "label": paths, "id": f"c{index}", "patient": f"p{index}"})
    labels = {"0": "background", str(round(value)): "Lesion"}
    content = {"name": "Toy", "modality": {"0": "FLAIR"}, "labels": labels, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_cohort(folder)


def _ras(mask, affine, *, channels=1, channel=0):
    """A mask as a network gives it: turned to RAS."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt("RAS"))
    turned = nib.orientations.apply_orientation(mask.astype(np.uint8), turn)
    labels = np.full((channels, *turned.shape), 9, np.uint8)
    labels[channel] = turned
    return MetaTensor(torch.from_numpy(labels), affine=torch.from_numpy(affine @ inv_ornt_aff(turn, SHAPE)))


def _run(report, rows, predictions):
    def predict(engine, batch):
        return [{"pred": predictions[row["case"]]} for row in batch]

    engine = Engine(predict)
    report.attach(engine)
    engine.run([rows[:2], rows[2:]])


def _table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _report(cohort, folder, **options):
    return LesionReport(cohort=cohort, cases=cohort.cases, label_names=NAMES, output_dir=folder, **options)


def _first_rater(cohort, **options):
    return {
        case.key: _ras(np.asarray(nib.load(case.label).dataobj) > 0, nib.load(case.label).affine, **options)
        for case in cohort.cases
    }


def test_a_copy_of_the_first_rater_is_perfect_against_him_and_as_good_as_he_is_against_the_second(tmp_path, caplog):
    cohort = _cohort(tmp_path)
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        _run(_report(cohort, out), evaluation_cases(cohort.cases), _first_rater(cohort))
    rows = _table(out / "scores_by_rater.csv")
    assert [(row["case"], row["rater"]) for row in rows] == [(f"c{i}", str(r)) for i in range(3) for r in (1, 2)]
    averaged = _table(out / "scores.csv")
    assert list(averaged[0])[:5] == ["dataset", "case", "group", "organ", "dice"]
    for index, row in enumerate(averaged):
        against = rows[2 * index : 2 * index + 2]
        masks = [np.asarray(nib.load(path).dataobj) > 0 for path in cohort.cases[index].labels]
        spacing = np.linalg.norm(list(GRIDS.values())[index][:3, :3], axis=0)
        expected = score_lesions(*masks, spacing)
        assert (float(against[0]["dice"]), float(against[0]["hd95"]), float(against[0]["false_lesions"])) == (1, 0, 0)
        assert float(against[1]["dice"]) == pytest.approx(expected.dice)
        assert float(against[1]["hd95"]) == pytest.approx(expected.hd95)
        assert float(against[1]["false_positive_ml"]) == pytest.approx(expected.false_positive_ml)
        assert float(row["dice"]) == pytest.approx((1 + expected.dice) / 2)
        assert float(row["reference_lesions"]) == sum(int(one["reference_lesions"]) for one in against) / 2
        assert (row["dataset"], row["group"], row["organ"], row["raters"]) == ("Toy", f"p{index}", "lesion", "2")
    summary = json.loads((out / "summary.json").read_text())
    lesion = summary["organs"]["lesion"]
    assert lesion["raters"]["1"]["volume_correlation"] == pytest.approx(1)
    assert lesion["raters"]["1"]["isbi_score"] == pytest.approx(1)
    assert 0 < lesion["raters"]["2"]["isbi_score"] < 1
    assert lesion["isbi_score"] == pytest.approx((1 + lesion["raters"]["2"]["isbi_score"]) / 2)
    assert lesion["dice"]["mean"] == pytest.approx(np.mean([float(row["dice"]) for row in averaged]))
    assert lesion["dice"]["low"] <= lesion["dice"]["mean"] <= lesion["dice"]["high"]
    assert (summary["cases"], summary["patients"]) == (3, 3)
    assert len(list((out / "overlays").glob("Toy_c?.png"))) == 3
    assert "lesion-wise F1" in caplog.text


def test_lesions_are_read_from_their_channel(tmp_path):
    cohort = _cohort(tmp_path, raters=1)
    predictions = _first_rater(cohort, channels=2, channel=1)
    report = _report(cohort, tmp_path / "out", channel=1, overlays=False)
    _run(report, evaluation_cases(cohort.cases), predictions)
    assert [one.score.dice for one in report.scores] == [1, 1, 1]
    assert not (tmp_path / "out" / "overlays").exists()


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (0.99995, np.float32)])
def test_label_values_of_the_data_set_may_be_255_or_miss_1_by_rounding(tmp_path, value, dtype):
    cohort = _cohort(tmp_path, raters=1, value=value, dtype=dtype)
    report = _report(cohort, tmp_path / "out", overlays=False)
    _run(report, evaluation_cases(cohort.cases), _first_rater(cohort))
    assert [one.score.dice for one in report.scores] == [1, 1, 1]


def test_a_case_without_lesions_is_counted_as_undefined(tmp_path):
    cohort = _cohort(tmp_path, empty=(1,))
    _run(_report(cohort, tmp_path / "out"), evaluation_cases(cohort.cases), _first_rater(cohort))
    row = _table(tmp_path / "out" / "scores.csv")[1]
    assert (row["dice"], row["lesion_wise_f1"], row["hd95"], float(row["false_positive_ml"])) == ("", "", "", 0)
    lesion = json.loads((tmp_path / "out" / "summary.json").read_text())["organs"]["lesion"]
    assert (lesion["dice"]["n"], lesion["dice"]["n_undefined"], lesion["n"]) == (2, 1, 3)
    assert lesion["false_positive_ml"]["n_undefined"] == 0


def test_running_twice_reports_the_second_run_only(tmp_path):
    cohort = _cohort(tmp_path, raters=1)
    report = _report(cohort, tmp_path / "out", overlays=False)
    for _ in range(2):
        _run(report, evaluation_cases(cohort.cases), _first_rater(cohort))
    assert len(_table(tmp_path / "out" / "scores.csv")) == 3


def test_a_lost_case_stops_the_report(tmp_path):
    cohort = _cohort(tmp_path, raters=1)
    with pytest.raises(InputError, match="Toy/c2: and 0 others were not scored"):
        _run(_report(cohort, tmp_path / "out"), evaluation_cases(cohort.cases[:2]), _first_rater(cohort))


def test_data_without_the_label_and_unknown_neighbours_are_refused(tmp_path):
    cohort = _cohort(tmp_path, raters=1)
    with pytest.raises(InputError, match="Toy: labels lesion, the network tumour"):
        LesionReport(cohort=cohort, cases=cohort.cases, label_names={1: "tumour"}, output_dir=tmp_path / "out")
    with pytest.raises(InputError, match="neighbours: is 8; choose 26, 18 or 6"):
        _report(cohort, tmp_path / "out", neighbours=8)


def _scores(cases=4):
    scores = []
    for index in range(cases):
        prediction = _lesions(index, 0.02 + 0.01 * index)
        for rater in (1, 2):
            reference = _lesions(index, 0.01 * (1 + index * rater)) if (index, rater) != (0, 2) else prediction * False
            group = f"p{index // 2}"
            scores.append(
                RaterScore("Toy", f"c{index}", group, "lesion", rater, score_lesions(prediction, reference, (1, 1, 1)))
            )
    return scores


def test_summary_takes_cohort_scores_per_rater_and_averages_them(tmp_path):
    scores = _scores()
    lesion = summarise_lesions(scores, protocol={"fold": 2})["organs"]["lesion"]
    composites, correlations = [], []
    for rater in (1, 2):
        own = [one.score for one in scores if one.rater == rater]
        composites.append(cohort_isbi_score(own))
        correlations.append(volume_correlation([one.prediction_ml for one in own], [one.reference_ml for one in own]))
        assert lesion["raters"][str(rater)]["isbi_score"] == pytest.approx(composites[-1])
        assert lesion["raters"][str(rater)]["n"] == 4
    assert lesion["isbi_score"] == pytest.approx(np.mean(composites))
    assert lesion["volume_correlation"] == pytest.approx(np.mean(correlations))
    assert lesion["raters"]["2"]["lesion_wise_true_positive_rate"]["n_undefined"] == 1
    # the first rater has the score of that case, so the average over raters has it too
    assert lesion["lesion_wise_true_positive_rate"]["n_undefined"] == 0
    assert lesion["dice"]["n_patients"] == 2
    summary = write_lesion_report(scores, tmp_path, protocol={"fold": 2})
    assert summary["protocol"]["fold"] == 2
    assert "reference has no lesion" in summary["protocol"]["undefined"]
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))


def test_a_rater_without_a_score_does_not_pull_the_average_down(tmp_path):
    scores = _scores()
    write_lesion_report(scores, tmp_path)
    row = _table(tmp_path / "scores.csv")[0]
    assert float(row["lesion_wise_true_positive_rate"]) == scores[0].score.lesion_wise_true_positive_rate
    assert math.isnan(scores[1].score.lesion_wise_true_positive_rate)


def test_table_has_a_line_per_metric_and_a_column_per_rater():
    lines = lesion_table(summarise_lesions(_scores())).splitlines()
    assert lines[0].split() == ["lesion", "mean", "undefined", "rater", "1", "rater", "2"]
    names = ["Dice", "lesion-wise", "voxel", "HD95", "volume correlation", "ISBI 2015 score"]
    assert all(any(line.startswith(name) for line in lines) for name in names)
    assert "0 of 4" in lines[1]
    single = lesion_table(summarise_lesions([one for one in _scores() if one.rater == 1])).splitlines()
    assert single[0].split() == ["lesion", "mean", "undefined"]


def test_one_case_has_no_cohort_scores():
    summary = summarise_lesions(_scores(1))
    assert summary["organs"]["lesion"]["isbi_score"] is None
    lines = lesion_table(summary).splitlines()
    assert next(line for line in lines if line.startswith("ISBI")).split()[-3:] == ["-", "-", "-"]


def test_cases_without_lesions_are_counted_and_stand_in_the_table():
    nothing, lesion = np.zeros((6, 6, 6), bool), np.zeros((6, 6, 6), bool)
    lesion[2:4, 2:4, 2:4] = True
    pairs = [(lesion, lesion), (nothing, nothing), (lesion, nothing), (nothing, lesion), (nothing, nothing)]
    scores = [
        RaterScore("Toy", str(number), str(number), "lesion", 1, score_lesions(*pair, (1, 1, 1)))
        for number, pair in enumerate(pairs)
    ]
    summary = summarise_lesions(scores)
    counts = {"n": 5, "n_empty": 3, "n_both_empty": 2, "n_missed": 1}
    assert counts.items() <= summary["organs"]["lesion"].items()
    assert counts.items() <= summary["organs"]["lesion"]["raters"]["1"].items()
    dice = summary["organs"]["lesion"]["dice"]
    assert (dice["n"], dice["n_patients"], dice["n_undefined"]) == (3, 3, 2)
    assert dice["mean"] == pytest.approx(1 / 3)
    lines = lesion_table(summary).splitlines()
    assert lines[1].endswith("2 of 5")
    assert ", n 3 " in lines[1]
    assert [line.split()[-3:] for line in lines[-3:]] == [["3", "of", "5"], ["2", "of", "5"], ["1", "of", "5"]]
    assert "unless every case" in summary["protocol"]["missing"]


def test_nothing_scored_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to report"):
        write_lesion_report([], tmp_path)


def test_an_image_on_another_grid_than_its_label_is_drawn(tmp_path):
    cohort = _cohort(tmp_path)
    image = nib.load(tmp_path / "0_flair.nii.gz")
    mirrored = image.get_fdata()[::-1, :, :8].astype(np.float32)
    nib.Nifti1Image(mirrored, image.affine @ _mirror(SHAPE[0])).to_filename(tmp_path / "0_flair.nii.gz")
    _run(_report(cohort, tmp_path / "out"), evaluation_cases(cohort.cases), _first_rater(cohort))
    assert len(list((tmp_path / "out" / "overlays").glob("Toy_c?.png"))) == 3


def _mirror(side):
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = side - 1
    return matrix
