"""Numbers of all cases together, by arm."""

import csv
import json

import pytest
from finished_runs import run_with_scores, run_without_scores

from mtmed.errors import InputError
from mtmed.studies.pooled_report import pooled_rows, pooled_table, pooled_values
from mtmed.studies.report import write_report


def _run(folder, arm, areas, *, seed=0):
    """A finished run whose summary has an area per organ: (value, low, high)."""
    run = run_with_scores(folder, arm, [("a", "a", organ, 0.5, 1.0) for organ in areas], seed=seed)
    entry = {
        organ: {"value": value, "low": low, "high": high, "n_patients": 12 + len(arm)}
        for organ, (value, low, high) in areas.items()
    }
    summary = {"image_auc": entry, "cases": 1, "organs": {organ: {"dice": 1} for organ in areas}}
    (run.evaluation / "summary.json").write_text(json.dumps(summary))
    return run


@pytest.fixture
def results(tmp_path):
    return [
        _run(tmp_path, "plain", {"lung": (0.8, 0.7, 0.9), "heart": (None, None, None)}),
        _run(tmp_path, "plain", {"lung": (0.6, 0.4, 0.8), "heart": (0.5, None, None)}, seed=1),
        _run(tmp_path, "student", {"lung": (0.9, 0.8, 1.0)}),
        run_without_scores("student", "missing", seed=1),
    ]


def test_values_and_ends_are_means_over_the_runs(results):
    rows = pooled_rows(results, ["image_auc"])
    assert pooled_table(rows)[1] == [
        ["lung", "100 %", "plain", "0.700 (0.550 to 0.850)", "0.141", "17", "2 of 2"],
        ["lung", "100 %", "student", "0.900 (0.800 to 1.000)", "-", "19", "1 of 2"],
        ["heart", "100 %", "plain", "0.500 (no interval)", "-", "17", "1 of 2"],
        ["heart", "100 %", "student", "-", "-", "0", "0 of 2"],
    ]
    assert [row.organ for row in pooled_rows(results, ["image_auc"], ["heart"])] == ["heart", "heart"]
    values = pooled_values(rows)[3]
    assert (values["value"], values["low"], values["sd"], values["runs"], values["planned"]) == (None, None, None, 0, 2)


def test_an_entry_that_no_run_has_is_one_line(results, tmp_path):
    message = r"asks for image_acu, which no run's summary\.json has by organ; choose from image_auc"
    with pytest.raises(InputError, match=message):
        pooled_rows(results, ["image_acu"])
    with pytest.raises(InputError, match="asks for organs"):
        pooled_rows(results, ["organs"])
    (results[0].evaluation / "summary.json").write_text("{")
    assert pooled_rows(results, ["image_auc"])[0].runs == 1
    assert pooled_rows([results[3]], ["image_auc"]) == [], "nothing is finished yet"


def test_every_file_of_the_report_has_the_numbers(results, tmp_path):
    text = write_report(results, title="Areas", metrics=["dice"], pooled=["image_auc"], output_dir=tmp_path / "report")
    assert "image AUC, of all cases together" in text
    assert "0.700 (0.550 to 0.850)" in (tmp_path / "report" / "report.html").read_text()
    values = json.loads((tmp_path / "report" / "table.json").read_text())["pooled"]
    with open(tmp_path / "report" / "pooled.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) if row["value"] else None for row in rows] == [one["value"] for one in values]
    assert rows[0]["entry"] == "image_auc"
