"""Reports: rows, means, counts."""

import csv
import json
import math

import pytest

from mtmed.errors import InputError
from mtmed.metrics import OrganScore, summarise, summary_table, write_report


def _score(case, organ, dice, *, group=None, hd95=2.0, reference=10.0, prediction=10.0):
    return OrganScore(
        dataset="demo",
        case=case,
        group=group or case,
        organ=organ,
        dice=dice,
        hd95=hd95,
        surface_dice=dice,
        boundary_difference=1 - dice,
        reference_ml=reference,
        prediction_ml=prediction,
        empty=reference == 0,
        missed=reference > 0 and prediction == 0,
    )


SCORES = [
    _score("a", "liver", 0.9),
    _score("b", "liver", 0.7),
    _score("c", "liver", 0.0, hd95=300.0, prediction=0.0),
    _score("a", "spleen", math.nan, hd95=math.nan, reference=0.0, prediction=0.0),
    _score("b", "spleen", 0.0, hd95=math.nan, reference=0.0, prediction=4.0),
]


def test_means_counts_and_protocol():
    summary = summarise(SCORES, protocol={"fold": 0})
    liver, spleen = summary["organs"]["liver"], summary["organs"]["spleen"]
    assert liver["dice"]["mean"] == pytest.approx(1.6 / 3)
    assert (liver["n"], liver["n_empty"], liver["n_missed"]) == (3, 0, 1)
    assert liver["dice"]["low"] <= liver["dice"]["mean"] <= liver["dice"]["high"]
    assert (spleen["n"], spleen["n_empty"], spleen["n_both_empty"], spleen["n_false_positive"]) == (2, 2, 1, 1)
    assert (summary["overall"]["n_both_empty"], spleen["dice"]["n_undefined"]) == (1, 1)
    assert "unless every case" in summary["protocol"]["missing"]
    assert spleen["false_positive_ml"] == 4.0
    assert spleen["dice"]["n"] == 1
    assert spleen["hd95"]["mean"] is None
    assert summary["overall"]["dice"]["mean"] == pytest.approx(1.6 / 4)
    assert (summary["cases"], summary["patients"]) == (3, 3)
    assert summary["protocol"]["fold"] == 0
    assert "prediction empty" in summary["protocol"]["empty_masks"]


def test_files_hold_a_row_per_case_and_organ_and_the_summary(tmp_path):
    summary = write_report(SCORES, tmp_path / "new", protocol={"fold": 1})
    with (tmp_path / "new" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert rows[0]["case"] == "a"
    assert float(rows[1]["dice"]) == 0.7
    assert rows[3]["dice"] == ""
    assert rows[2]["missed"] == "True"
    assert json.loads((tmp_path / "new" / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["scores.csv", "summary.json"]


def test_table_has_a_line_per_organ_and_one_for_all():
    lines = summary_table(summarise(SCORES)).splitlines()
    assert [line.split()[0] for line in lines] == ["organ", "liver", "spleen", "all"]
    assert "0.533 (" in lines[1]
    assert "(no interval)" in lines[2]


def test_summary_and_table_have_the_metrics_that_are_asked_for_in_their_order():
    summary = summarise(SCORES, metrics=("boundary_difference", "dice"))
    assert summary["organs"]["liver"]["boundary_difference"]["mean"] == pytest.approx(1.4 / 3)
    assert "hd95" not in summary["overall"]
    header = summary_table(summary).splitlines()[0]
    assert header.split("  ", 1)[1].split() == [
        "boundary",
        "difference",
        "Dice",
        "cases",
        "empty",
        "both",
        "empty",
        "missed",
    ]
    assert "boundary_difference" not in summarise(SCORES)["overall"]


def test_nothing_scored_and_unwritable_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to report"):
        write_report([], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(SCORES, tmp_path / "file")
