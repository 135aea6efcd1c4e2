"""The MS bundle's evaluation: every rater, on the label maps' own grids, from what was written."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from ms_lesion_runs import MS_LESION, SPACING, run_ms_lesion, write_brains

from mtmed.metrics import score_lesions

SETTINGS = {
    "variant": "single",
    "label_names": {"0": "background", "1": "lesion"},
    "modalities": ["FLAIR", "T1", "T2"],
    "heads": [2],
    "spacing": [SPACING] * 3,
    "patch_size": [32, 48, 32],
    "brain_mask": False,
    "tissue": "hmrf",
    "tissue_modality": "T1",
    "tissue_table": "mtmed",
    "merged_lesions": "none",
}


class Oracle(torch.nn.Module):
    """Lesions where FLAIR is further above its mean than cortex is; `paint_brain` leaves a wide gap there."""

    definition = {"_target_": "oracle"}  # noqa: RUF012

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        lesion = image[:, 0] > 2.0
        return torch.stack([~lesion, lesion], 1).float()


def evaluate(folder: Path, cohort: str, network: torch.nn.Module, **more: Any) -> Path:
    (folder / "model.pt").write_bytes(b"oracle")
    given = {
        "checkpoint": str(folder / "model.pt"),
        "network_def": network,
        "settings": SETTINGS,
        "dataset_dir": cohort,
        "output_dir": str(folder / "out"),
        "device": "cpu",
        "run": ["$@evaluator.run()"],
        **more,
    }
    workflow = ConfigWorkflow(
        config_file=str(MS_LESION / "evaluate.json"), meta_file=None, logging_file=False, workflow_type=None, **given
    )
    workflow.initialize()
    workflow.run()
    return folder / "out"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def voxels(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def rows_of(cohort: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((Path(cohort) / "dataset.json").read_text())["training"]}


def assert_equals_the_metrics(out: Path, cohort: str, raters: int) -> None:
    """Scores again what lies in ``predictions/`` against the label files."""
    by_rater = table(out / "scores_by_rater.csv")
    averaged = {row["case"]: row for row in table(out / "scores.csv")}
    assert {row["case"] for row in by_rater} == set(averaged)
    assert len(by_rater) == raters * len(averaged)
    for case, row in averaged.items():
        prediction = voxels(out / "predictions" / f"Toy_MS_{case}_seg.nii.gz") == 1
        labels = rows_of(cohort)[case]["label"]
        scores = []
        for rater, label in enumerate(labels if isinstance(labels, list) else [labels], 1):
            reference = voxels(Path(cohort) / label) == 1
            scores.append(asdict(score_lesions(prediction, reference, (SPACING,) * 3)))
            (written,) = [one for one in by_rater if (one["case"], one["rater"]) == (case, str(rater))]
            for name, value in scores[-1].items():
                assert same(written[name], value), (case, rater, name)
        for name in scores[0]:
            defined = [score[name] for score in scores if not math.isnan(score[name])]
            assert same(row[name], float(np.mean(defined)) if defined else math.nan), (case, name)


def same(cell: str, value: float) -> bool:
    """An empty cell stands for an undefined score."""
    return cell == "" if math.isnan(value) else float(cell) == pytest.approx(value, rel=1e-6, abs=1e-9)


@pytest.fixture(scope="module")
def one_rater(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_brains(tmp_path_factory.mktemp("one") / "scans", patients=2, visits=2, raters=1)


@pytest.fixture(scope="module")
def two_raters(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_brains(tmp_path_factory.mktemp("two") / "scans", patients=4, visits=1, raters=2)


def test_perfect_prediction_scores_one_and_zero(one_rater: str, tmp_path: Path) -> None:
    out = evaluate(tmp_path, one_rater, Oracle(), folds=2)
    scores = table(out / "scores.csv")
    assert [row["case"] for row in scores] in (["p0_0", "p0_1"], ["p1_0", "p1_1"])
    perfect = {"dice": 1, "lesion_wise_f1": 1, "positive_predictive_value": 1, "voxel_true_positive_rate": 1}
    perfect |= {"hd95": 0, "lesion_wise_false_positive_rate": 0, "false_positive_ml": 0, "volume_difference": 0}
    for row in scores:
        assert {name: float(row[name]) for name in perfect} == perfect
    assert_equals_the_metrics(out, one_rater, raters=1)


def test_report_has_both_raters_pictures_cases_and_protocol(two_raters: str, tmp_path: Path) -> None:
    out = evaluate(tmp_path, two_raters, Oracle(), folds=2, fold=1)
    assert_equals_the_metrics(out, two_raters, raters=2)
    by_rater = table(out / "scores_by_rater.csv")
    assert all(float(row["dice"]) == 1 for row in by_rater if row["rater"] == "1")
    assert all(float(row["dice"]) < 1 for row in by_rater if row["rater"] == "2")
    summary = json.loads((out / "summary.json").read_text())
    lesion = summary["organs"]["lesion"]
    assert (summary["cases"], summary["patients"], lesion["n"]) == (2, 2, 2)
    assert lesion["dice"]["mean"] == pytest.approx(np.mean([float(row["dice"]) for row in by_rater]))
    assert lesion["raters"]["1"]["dice"]["mean"] == 1
    assert summary["protocol"]["variant"] == "single"
    assert (summary["protocol"]["folds"], summary["protocol"]["fold"]) == (2, 1)
    scored = {row["case"] for row in by_rater}
    assert {path.name for path in (out / "overlays").iterdir()} == {f"Toy_MS_{case}.png" for case in scored}
    cases = json.loads((out / "cases.json").read_text())
    assert set(cases) == {f"Toy_MS/{case}" for case in scored}
    for key, files in cases.items():
        row = rows_of(two_raters)[key.partition("/")[2]]
        assert Path(files["image"]) == Path(two_raters) / row["image"][0]
        assert Path(files["reference"]) == Path(two_raters) / row["label"][0]
        assert files["organs"] == {"lesion": [1, 1]}


def test_nothing_found_leaves_undefined_scores_empty_and_counted(two_raters: str, tmp_path: Path) -> None:
    class Blind(Oracle):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.stack([image[:, 0] == image[:, 0], image[:, 0] != image[:, 0]], 1).float()

    out = evaluate(tmp_path, two_raters, Blind(), folds=2, overlays=False)
    assert_equals_the_metrics(out, two_raters, raters=2)
    scores = table(out / "scores.csv")
    undefined = ("positive_predictive_value", "lesion_wise_false_positive_rate")
    for row in scores:
        assert float(row["dice"]) == float(row["lesion_wise_f1"]) == 0
        assert {row[name] for name in undefined} == {""}
    lesion = json.loads((out / "summary.json").read_text())["organs"]["lesion"]
    for name in undefined:
        assert (lesion[name]["mean"], lesion[name]["n_undefined"]) == (None, 2)
    assert not (out / "overlays").exists()


@pytest.mark.parametrize("variant", ["single", "multi_input", "multi_output"])
def test_trained_network_is_scored_on_the_fold_it_has_not_seen(
    variant: str, trained_ms: Callable[[str], Path], brains: Mapping[str, str], tmp_path: Path
) -> None:
    given = {"checkpoint": str(trained_ms(variant) / "model.pt"), "dataset_dir": brains["data"], "device": "cpu"}
    out = run_ms_lesion("evaluate", {**given, "output_dir": str(tmp_path), "tissue_dir": brains["tissue"]})
    assert_equals_the_metrics(out, brains["data"], raters=2)
    config = json.loads((trained_ms(variant) / "config.json").read_text())
    assert (config["folds"], config["fold"]) == (5, 0)
    held_out = {row["group"] for row in table(out / "scores.csv")}
    assert len(held_out) == 1
    tissues = list((out / "predictions").glob("*_tissue.nii.gz"))
    assert len(tissues) == (2 if variant == "multi_output" else 0)
