"""Reading what runs left behind."""

import math

import pytest
from finished_runs import block, run_with_scores, run_without_scores, write_case, write_scores

from mtmed.errors import InputError
from mtmed.studies.results import Result, read_case_files, read_scores, score_columns


def test_scores_have_patient_case_and_organ_and_an_empty_cell_is_nan(tmp_path):
    folder = write_scores(tmp_path, [("a1", "a", "liver", 0.5, 3.0), ("a2", "a", "spleen", None, None)])
    first, second = read_scores(folder / "scores.csv", ["hd95", "dice"])
    assert (first.patient, first.case, first.organ) == ("demo/a", "demo/a1", "liver")
    assert first.values == {"hd95": 3.0, "dice": 0.5}
    assert second.patient == "demo/a"
    assert all(math.isnan(value) for value in second.values.values())
    assert score_columns(folder / "scores.csv") == ["dice", "hd95"]


def test_unknown_metric_damaged_cell_and_foreign_table_are_refused(tmp_path):
    path = write_scores(tmp_path, [("a1", "a", "liver", "good", 3.0)]) / "scores.csv"
    with pytest.raises(InputError, match="no column f1; choose metrics from dice, hd95"):
        read_scores(path, ["f1"])
    with pytest.raises(InputError, match="'good' as dice"):
        read_scores(path, ["dice"])
    path.write_text("case,dice\na,1\n")
    with pytest.raises(InputError, match="no column dataset"):
        read_scores(path, ["dice"])
    path.write_text("dataset,case,group,organ,dice\ndemo,a\n")
    with pytest.raises(InputError, match="None as dice"):
        read_scores(path, ["dice"])
    with pytest.raises(InputError, match="cannot be read"):
        read_scores(tmp_path / "none.csv", ["dice"])


def test_only_a_finished_run_with_a_table_has_scores(tmp_path):
    run = run_with_scores(tmp_path, "scratch", [("a", "a", "liver", 0.5, 1.0)], fold=3, fraction=12.5, seed=1)
    assert run.scores is not None
    assert run.name == "scratch, 12.5 %, fold 3, seed 1"
    assert run_without_scores("scratch", "missing").scores is None
    assert Result("scratch", 0, 100.0, 0, "failed", None, run.evaluation).scores is None
    (run.evaluation / "scores.csv").unlink()
    assert run.scores is None


def test_files_of_a_case_are_found_by_its_key(tmp_path):
    write_case(tmp_path, "a", *block(), {"liver": (2, 7)}, window=(-100, 200))
    write_case(tmp_path, "b", *block(), {"liver": (2, 7)})
    files = read_case_files(tmp_path)
    assert list(files) == ["demo/a", "demo/b"]
    assert files["demo/a"].organs == {"liver": (2, 7)}
    assert files["demo/a"].window == (-100.0, 200.0)
    assert files["demo/b"].window is None
    assert all(path.is_file() for one in files.values() for path in (one.image, one.reference, one.prediction))


def test_an_organ_may_have_several_values_in_the_reference(tmp_path):
    write_case(tmp_path, "a", *block(), {"kidney": (1, [1, 2]), "liver": (2, 7)})
    assert read_case_files(tmp_path)["demo/a"].organs == {"kidney": (1, (1, 2)), "liver": (2, 7)}


def test_evaluation_without_a_list_of_cases_has_no_files_and_a_damaged_one_is_refused(tmp_path):
    assert read_case_files(tmp_path) == {}
    listed = '{"demo/a": {"image": "x", "reference": "y", "window": null, "organs": {"liver": [1, "x"]}}}'
    for damaged in ("{", "[]", '{"demo/a": {"image": "x"}}', listed):
        (tmp_path / "cases.json").write_text(damaged)
        with pytest.raises(InputError, match="is damaged"):
            read_case_files(tmp_path)
