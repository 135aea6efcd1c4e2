"""The kidney bundle's evaluation: kidney and tumour as one organ, on the label maps' own grids."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from siamese_kidney_runs import SETTINGS, SPACING, run_siamese, write_kidneys
from skimage.segmentation import find_boundaries

from mtmed.bundle.messages import mendable
from mtmed.studies.case_slice import case_row
from mtmed.studies.results import read_case_files


class Oracle(torch.nn.Module):
    """Kidney where the image is above a share of its range: 0.75 finds kidneys, 0.6 tumours too and some liver."""

    definition = {"_target_": "oracle"}  # noqa: RUF012

    def __init__(self, share: float = 0.75) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        kidney = image[:, 0] > self.share * image.max() + (1 - self.share) * image.min()
        return torch.stack([~kidney, kidney], 1).float()


def evaluate(folder: Path, cohort: str, **more: Any) -> Path:
    (folder / "model.pt").write_bytes(b"oracle")
    given = {
        "checkpoint": str(folder / "model.pt"),
        "network_def": Oracle(),
        "settings": SETTINGS,
        "dataset_dir": cohort,
        "output_dir": str(folder / "out"),
        "device": "cpu",
        "folds": 2,
        "run": ["$@evaluator.run()"],
        **more,
    }
    return run_siamese("evaluate", given)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_kidneys(tmp_path_factory.mktemp("four") / "scans", cases=4, hidden=False)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def voxels(path: str | Path) -> NDArray[Any]:
    return np.asarray(nib.load(path).dataobj)


def label_of(cohort: str, case: str) -> NDArray[Any]:
    return voxels(Path(cohort) / "data" / case / "segmentation.nii.gz")


def scores_of(prediction: NDArray[np.bool_], reference: NDArray[np.bool_], tolerance: float) -> dict[str, float]:
    """By distance maps; boundaries as scikit-image finds them."""
    edges = [find_boundaries(mask, mode="inner") for mask in (prediction, reference)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=SPACING) for edge in edges]
    distances = [maps[1][edges[0]], maps[0][edges[1]]]
    lengths = [int(edge.sum()) for edge in edges]
    return {
        "dice": 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum()),
        "hd95": max(float(np.quantile(one, 0.95)) for one in distances),
        "surface_dice": sum(int((one <= tolerance).sum()) for one in distances) / sum(lengths),
        "boundary_difference": abs(lengths[0] - lengths[1]) / lengths[1],
        "reference_ml": float(reference.sum() * np.prod(SPACING) / 1000),
        "prediction_ml": float(prediction.sum() * np.prod(SPACING) / 1000),
    }


@pytest.mark.parametrize("share", [0.75, 0.6])
def test_scores_are_those_of_kidney_and_tumour_together(share: float, cohort: str, tmp_path: Path) -> None:
    out = evaluate(tmp_path, cohort, fold=0, network_def=Oracle(share), surface_tolerance=8.0)
    rows = table(out / "scores.csv")
    assert len(rows) == 2
    tumours = 0
    for row in rows:
        assert (row["dataset"], row["organ"], row["group"]) == ("Toy_KiTS", "kidney", row["case"])
        label = label_of(cohort, row["case"])
        tumours += int((label == 2).sum())
        prediction = voxels(out / "predictions" / f"Toy_KiTS_{row['case']}_seg.nii.gz") == 1
        for name, value in scores_of(prediction, label > 0, 8.0).items():
            assert float(row[name]) == pytest.approx(value, rel=1e-6, abs=1e-9), (row["case"], name)
    assert tumours
    assert any(float(row["dice"]) < 1 for row in rows)
    assert any(float(row["boundary_difference"]) > 0 for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    organ = summary["organs"]["kidney"]
    for name in ("dice", "hd95", "surface_dice", "boundary_difference"):
        assert organ[name]["mean"] == pytest.approx(np.mean([float(row[name]) for row in rows]))
    assert summary["protocol"]["label_groups"] == SETTINGS["label_groups"]
    assert summary["protocol"]["surface_dice_tolerance_mm"] == 8.0


def test_nothing_found_is_a_miss_in_every_score(cohort: str, tmp_path: Path) -> None:
    out = evaluate(tmp_path, cohort, network_def=Oracle(1.0), overlays=False)
    for row in table(out / "scores.csv"):
        label = label_of(cohort, row["case"])
        diagonal = float(np.linalg.norm(np.array(label.shape) * SPACING))
        assert [float(row[name]) for name in ("dice", "surface_dice", "boundary_difference")] == [0, 0, 1]
        assert float(row["hd95"]) == pytest.approx(diagonal)
        assert row["missed"] == "True"
    assert not (out / "overlays").exists()


def test_pictures_and_files_of_the_cases_know_what_was_merged(cohort: str, tmp_path: Path) -> None:
    out = evaluate(tmp_path, cohort)
    scored = {row["case"] for row in table(out / "scores.csv")}
    assert {path.name for path in (out / "overlays").iterdir()} == {f"Toy_KiTS_{case}.png" for case in scored}
    listed = json.loads((out / "cases.json").read_text())
    assert set(listed) == {f"Toy_KiTS/{case}" for case in scored}
    merged = [bool((label_of(cohort, case) == 2).any()) for case in scored]
    assert any(merged)
    for key, files in read_case_files(out).items():
        assert listed[key]["organs"] == {"kidney": [1, [1, 2]]}
        assert files.organs == {"kidney": (1, (1, 2))}
        assert Path(files.reference) == Path(cohort) / "data" / key.partition("/")[2] / "segmentation.nii.gz"
        # what a study draws
        row = case_row({"none": files}, ["kidney"], heading=key, dice={"none": "1"})
        reference = voxels(files.reference).transpose(2, 1, 0)[::-1, ::-1, ::-1] > 0
        cut = int(reference.sum((0, 1)).argmax())
        assert row.heading.endswith(f"axial slice {cut + 1} of {reference.shape[2]}")
        np.testing.assert_array_equal(row.reference, reference[:, :, cut])
        assert row.window == (-80.0, 300.0)


def test_data_sets_with_other_label_values_are_merged_by_name(cohort: str, tmp_path: Path) -> None:
    """Labels 0 and 1 beside 0, 1 and 2."""
    write_kidneys(tmp_path / "both" / "plain", cases=2, hidden=False, tumours=False, name="Toy_Plain", seed=1)
    (tmp_path / "both" / "merged").symlink_to(cohort)
    out = evaluate(tmp_path, str(tmp_path / "both"), fold="none", overlays=False)
    organs = {key.split("/")[0]: files.organs["kidney"] for key, files in read_case_files(out).items()}
    assert organs == {"Toy_KiTS": (1, (1, 2)), "Toy_Plain": (1, 1)}
    assert len(table(out / "scores.csv")) == 6


def test_trained_network_is_scored_on_the_fold_it_has_not_seen(
    trained_siamese: Path, kidneys: dict[str, str], tmp_path: Path
) -> None:
    given = {"checkpoint": str(trained_siamese / "model.pt"), "dataset_dir": kidneys["data"], "device": "cpu"}
    out = run_siamese("evaluate", {**given, "folds": 3, "output_dir": str(tmp_path / "out")})
    rows = table(out / "scores.csv")
    assert len(rows) == len(list((out / "predictions").glob("*_seg.nii.gz"))) > 1
    for row in rows:
        label = label_of(kidneys["data"], row["case"])
        assert float(row["reference_ml"]) == pytest.approx((label > 0).sum() * np.prod(SPACING) / 1000)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run_siamese("evaluate", {**given, "folds": 3, "fold": 1, "output_dir": str(tmp_path / "seen")})
    line = str(mendable(caught.value))
    assert "are of patients that the network was trained on" in line
    assert "--allow_seen true" in line
    assert "\n" not in line
