"""The GI tract bundle's evaluation: scores of slices and scans, whom it refuses, and what is sent to the challenge."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from gi_tract_oracles import ReadOut, run_oracle
from gi_tract_runs import (
    DAYS,
    ORGANS,
    SHAPE,
    case_and_day,
    paint_abdomen,
    run_gi_tract,
    scan_paths,
    write_abdomens,
    write_slices,
)
from numpy.typing import NDArray
from scipy.spatial.distance import directed_hausdorff

from mtmed.bundle.messages import mendable
from mtmed.cli import main
from mtmed.studies.results import read_case_files
from mtmed.transforms.run_length import decode_run_lengths

SIZE = [SHAPE[1], SHAPE[2]]
GREY_STEP = 9000


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def hand_made(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A prediction K D H W with every kind of mistake.

    The large bowel is moved by two columns, a slice of the small bowel is missed, and the stomach is seen in a slice
    that has none.
    """
    found = masks.copy()
    found[0] = np.roll(masks[0], 2, axis=-1)
    found[1][masks[1].any((1, 2)).argmax()] = False
    found[2, 0, 3:6, 4:9] = True
    return found


def pack(masks: NDArray[np.bool_]) -> NDArray[np.uint16]:
    return np.asarray(sum(mask.astype(np.uint16) << bit for bit, mask in enumerate(masks)), np.uint16)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scans whose grey values are the hand-made prediction of their masks."""
    folder = tmp_path_factory.mktemp("hand_made") / "cohort"
    write_abdomens(folder, hidden=())
    for name, path in scan_paths(folder).items():
        case, day = case_and_day(name)
        shutil.rmtree(path)
        grey = pack(hand_made(paint_abdomen(case, day)[1])) * GREY_STEP
        # so that 0 and 7 are the range of every scan
        grey[-1, -1, -1] = 7 * GREY_STEP
        write_slices(path, grey)
    return str(folder)


def masks_of(case: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Prediction and reference of a scan, K D H W."""
    number, day = case_and_day(case)
    reference = paint_abdomen(number, day)[1]
    found = hand_made(reference)
    found[:, -1, -1, -1] = True
    return found, reference


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def expected_scores(found: NDArray[np.bool_], reference: NDArray[np.bool_]) -> dict[str, float]:
    """Of one organ, D H W."""
    pairs = list(zip(found, reference, strict=True))
    points = [np.argwhere(mask) / np.array(mask.shape) for mask in (found, reference)]
    hausdorff = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0]) / np.sqrt(3)
    ranked = np.mean([dice(a, b) for a, b in pairs if a.any() or b.any()])
    positive = float(np.mean([dice(a, b) for a, b in pairs if b.any()]))
    return {
        "slice_dice": positive,
        "positive_slice_dice": positive,
        "slice_dice_empty_one": float(np.mean([dice(a, b) if a.any() or b.any() else 1 for a, b in pairs])),
        "dice": dice(found, reference),
        "hausdorff": hausdorff,
        "competition_dice": float(ranked),
        "competition_score": 0.4 * ranked + 0.6 * (1 - hausdorff),
        "false_positive_voxels": int((found & ~reference).sum()),
        "false_negative_voxels": int((reference & ~found).sum()),
        "slices": len(found),
        "empty_slices": sum(not b.any() for _, b in pairs),
        "false_positive_slices": sum(a.any() and not b.any() for a, b in pairs),
        "missed_slices": sum(b.any() and not a.any() for a, b in pairs),
    }


def evaluate(folder: Path, cohort: str, **more: Any) -> Path:
    given = {"dataset_dir": cohort, "shares": [60, 20, 20], **more}
    return run_oracle("evaluate", folder, ReadOut(), SIZE, **given)


# --- scores -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(cohort: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a report on both scans of one patient and that of another one."""
    return evaluate(tmp_path_factory.mktemp("report"), cohort, shares=[60, 40, 0])


def test_scores_of_a_hand_made_prediction_are_the_computed_ones(report: Path) -> None:
    rows = table(report / "scores.csv")
    assert {row["organ"] for row in rows} == set(ORGANS)
    assert len({row["group"] for row in rows}) == 2
    assert len(rows) == 3 * len({row["case"] for row in rows})
    for row in rows:
        organ = ORGANS.index(row["organ"])
        found, reference = masks_of(row["case"])
        np.testing.assert_array_equal(
            nib.load(report / "predictions" / f"Toy_GI_{row['case']}_seg.nii.gz").get_fdata().transpose(2, 1, 0),
            pack(found),
        )
        expected = expected_scores(found[organ], reference[organ])
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-6), (row["case"], row["organ"], name)
        if expected["false_negative_voxels"]:
            ratio = expected["false_positive_voxels"] / expected["false_negative_voxels"]
            assert float(row["false_positive_to_false_negative"]) == pytest.approx(ratio)
        else:
            # of the stomach nothing is missed
            assert row["false_positive_to_false_negative"] in ("", "nan")


def test_rows_of_slices_are_those_of_the_files(report: Path) -> None:
    rows = table(report / "slices.csv")
    assert len(rows) == SHAPE[0] * len(table(report / "scores.csv"))
    for row in rows:
        organ, index = ORGANS.index(row["organ"]), int(row["slice"]) - 1
        found, reference = (masks[organ, index] for masks in masks_of(row["case"]))
        assert (int(row["prediction_voxels"]), int(row["reference_voxels"])) == (found.sum(), reference.sum())
        if reference.any():
            assert float(row["dice"]) == pytest.approx(dice(found, reference))
        else:
            assert row["dice"] in ("", "nan")
        assert (float(row["highest_probability"]) > 0.5) == found.any()


def test_summary_pools_slices_and_averages_scans(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text())
    cases = sorted({row["case"] for row in table(report / "scores.csv")})
    assert (summary["cases"], summary["patients"], summary["slices"]) == (len(cases), 2, SHAPE[0] * len(cases))
    means = []
    for organ, name in enumerate(ORGANS):
        own = [(masks[organ] for masks in masks_of(case)) for case in cases]
        pairs = [pair for found, reference in own for pair in zip(found, reference, strict=True)]
        means.append(np.mean([dice(a, b) for a, b in pairs if b.any()]))
        pooled = summary["pooled"]["organs"][name]
        assert pooled["slice_dice"]["mean"] == pytest.approx(means[-1])
        assert pooled["false_positive_voxels"] == sum(int((a & ~b).sum()) for a, b in pairs)
        over_scans = [float(r["dice"]) for r in table(report / "scores.csv") if r["organ"] == name]
        assert summary["organs"][name]["dice"]["mean"] == pytest.approx(np.mean(over_scans))
        # what is predicted is seen in the highest probability, which is the same wherever something is
        present = np.array([b.any() for _, b in pairs])
        seen = np.array([a.any() for a, _ in pairs])
        right, wrong = seen[present].mean(), seen[~present].mean()
        area = summary["image_auc"][name]
        assert area["value"] == pytest.approx((1 + right - wrong) / 2, abs=1e-6)
        assert (area["positives"], area["negatives"]) == (present.sum(), (~present).sum())
    assert summary["pooled"]["overall"]["slice_dice"]["mean"] == pytest.approx(np.mean(means))
    protocol = summary["protocol"]
    assert (protocol["part"], protocol["shares"], protocol["empty"]) == ("validation", [60, 40, 0], "nan")
    assert "patient" in protocol["split"]


def test_empty_slices_count_as_the_rule_says(cohort: str, report: Path, tmp_path: Path) -> None:
    zero = {
        (row["case"], row["organ"]): row
        for row in table(evaluate(tmp_path, cohort, shares=[60, 40, 0], empty="zero", overlays=False) / "scores.csv")
    }
    for row in table(report / "scores.csv"):
        shown = int(row["slices"]) - int(row["empty_slices"])
        other = float(zero[row["case"], row["organ"]]["slice_dice"])
        assert other == pytest.approx(float(row["slice_dice"]) * shown / int(row["slices"]))
        for named in ("positive_slice_dice", "slice_dice_empty_one"):
            assert zero[row["case"], row["organ"]][named] == row[named]
    assert not (tmp_path / "out" / "overlays").exists()


def test_pictures_and_files_are_what_studies_read(report: Path) -> None:
    scored = {row["case"] for row in table(report / "scores.csv")}
    assert {path.name for path in (report / "overlays").iterdir()} == {f"Toy_GI_{case}.png" for case in scored}
    files = read_case_files(report)
    assert set(files) == {f"Toy_GI/{case}" for case in scored}
    for one in files.values():
        # in each value of a packed map in which its bit is set
        assert one.organs["small_bowel"] == ((2, 3, 6, 7), (2, 3, 6, 7))
        assert Path(one.prediction).is_file()


# --- parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["patient", "patient_day"])
def test_validation_and_test_are_other_cases(key: str, cohort: str, tmp_path: Path) -> None:
    scored: dict[str, set[str]] = {}
    for part in ("validation", "test"):
        (tmp_path / part).mkdir()
        out = evaluate(tmp_path / part, cohort, part=part, split_key=key, overlays=False)
        scored[part] = {row["case"] for row in table(out / "scores.csv")}
        stated = json.loads((out / "summary.json").read_text())["protocol"]["split"]
        assert ("days" in stated) == (key == "patient_day")
    assert scored["validation"]
    assert scored["test"]
    assert not scored["validation"] & scored["test"]


def test_trained_network_is_scored_on_what_it_has_not_seen(
    trained_gi_tract: Any, gi_tract_options: Any, tmp_path: Path
) -> None:
    given = gi_tract_options("evaluate", checkpoint=str(trained_gi_tract("film") / "model.pt"))
    seen = set()
    for part in ("validation", "test"):
        out = run_gi_tract("evaluate", {**given, "part": part, "output_dir": str(tmp_path / part)})
        rows = table(out / "scores.csv")
        seen |= {row["group"] for row in rows}
        for row in rows:
            number, day = case_and_day(row["case"])
            reference = paint_abdomen(number, day)[1][ORGANS.index(row["organ"])]
            assert int(row["empty_slices"]) == sum(not one.any() for one in reference)
    assert len(seen) == 2
    for other in ({"part": "training"}, {"fold": 1, "part": "test"}, {"fold": 2}):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            run_gi_tract("evaluate", {**given, "part": "validation", "output_dir": str(tmp_path / "seen"), **other})
        line = str(mendable(caught.value))
        assert "are of patients that the network was trained on" in line
        assert "--allow_seen true" in line
        assert "\n" not in line
    allowed = {"part": "training", "allow_seen": True, "overlays": False, "output_dir": str(tmp_path / "allowed")}
    out = run_gi_tract("evaluate", {**given, **allowed})
    assert len({row["group"] for row in table(out / "scores.csv")}) == len(DAYS) - 2


# --- submission ---------------------------------------------------------------------------------------------------


def test_submission_decodes_to_the_predictions(tmp_path: Path) -> None:
    """Of scans without labels, predicted by inference."""
    tree = tmp_path / "test"
    found = {"case7_day3": pack(paint_abdomen(7, 3)[1]), "case12_day0": pack(paint_abdomen(12, 0)[1])}
    for name, label in found.items():
        label[-1, -1, -1] = 7
        write_slices(tree / name.split("_")[0] / name / "scans", label * GREY_STEP)
    out = run_oracle("inference", tmp_path, ReadOut(), SIZE, input=str(tree))
    target = tmp_path / "submission.csv"
    words = ["submission", str(out), "--challenge", "uw_madison", "--images", str(tree), "--output", str(target)]
    assert main(words) == 0
    rows = table(target)
    assert list(rows[0]) == ["id", "class", "predicted"]
    expected = [(f"{name}_slice_{number:04d}", organ) for name in found for number in range(1, 9) for organ in ORGANS]
    assert [(row["id"], row["class"]) for row in rows] == expected
    for row in rows:
        name, number = row["id"].split("_slice_")
        mask = found[name][int(number) - 1] >> ORGANS.index(row["class"]) & 1
        np.testing.assert_array_equal(decode_run_lengths(row["predicted"], SIZE), mask > 0)
