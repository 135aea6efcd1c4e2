import json

import pytest

from mtmed.errors import InputError
from mtmed.studies.record import RECORD, changed_configs, keep_record


def test_runs_may_be_added(plan, tmp_path):
    keep_record(plan(), tmp_path)
    keep_record(plan(), tmp_path)
    third = {"pretrain": None, "train": {"learning_rate": 1}}
    keep_record(plan({"folds": [2, 1, 0], "seeds": [0, 1], "fractions": [100, 5], "arms::third": third}), tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["folds"] == [2, 1, 0]
    assert record["arms"]["third"]["train"]["learning_rate"] == 1


def test_where_jobs_run_and_how_they_are_reported_is_free(plan, tmp_path):
    keep_record(plan(), tmp_path)
    reporting = {"title": "Other", "score::metrics": ["hd95"], "score::organs": ["liver"], "reference_arm": None}
    keep_record(plan(reporting, "device=cuda"), tmp_path)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"folds": [0]}, [], "has folds 1, which this study lacks"),
        ({"arms": {"scratch": {"pretrain": None}}, "inputs": {"data": "d"}}, [], "has the arm 'pretrained'"),
        ({}, ["learning_rate=1"], "has another learning_rate in the train of arm 'scratch': its default and 1 here"),
        ({"inputs::data": "e"}, [], "has another dataset_dir in the train of arm 'scratch'"),
        (
            {"steps::train::config": ["train.json", "quick.json"]},
            [],
            "learning_rate in the config of train: 0.1 and 0.5",
        ),
        (
            {"steps::train::vary": ["fold"]},
            [],
            "varies train with ['fold', 'fraction', 'seed'], this study with ['fold']",
        ),
        (
            {"arms::pretrained::train": {"split_seed": 0}, "arms::scratch": {}},
            [],
            "has another pretrained in the train of arm 'scratch'",
        ),
    ],
)
def test_other_settings_are_refused_by_name(plan, tmp_path, changes, settings, message):
    keep_record(plan(), tmp_path / "out")
    before = (tmp_path / "out" / RECORD).read_text()
    if "arms" in changes:
        changes = {**changes, "steps::pretrain::overrides": {}}
    if "arms::scratch" in changes:
        changes = {**changes, "steps::train::overrides::pretrained": "{pretrain}"}
    with pytest.raises(InputError) as caught:
        keep_record(plan(changes, *settings), tmp_path / "out")
    assert message in str(caught.value)
    assert (tmp_path / "out" / RECORD).read_text() == before


def test_a_changed_config_is_noticed(plan, tmp_path):
    keep_record(plan(), tmp_path / "out")
    made = plan()
    made.configs["evaluate"].content["run"].append("$print()")
    with pytest.raises(InputError, match="has another run in the config of evaluate; choose another --output"):
        keep_record(made, tmp_path / "out")


def test_a_damaged_record_is_one_line(plan, tmp_path):
    for text in ("{", "[]", "{}"):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(InputError, match=r"study\.json: cannot be read"):
            keep_record(plan(), tmp_path)


def test_for_a_report_alone_configs_may_have_changed_and_nothing_else(plan, tmp_path):
    keep_record(plan(), tmp_path)
    before = (tmp_path / RECORD).read_text()
    made = plan()
    assert changed_configs(made, tmp_path) == []
    made.configs["evaluate"].content["run"].append("$print()")
    assert changed_configs(made, tmp_path) == ["evaluate"]
    with pytest.raises(InputError, match="has another learning_rate"):
        changed_configs(plan(None, "learning_rate=1"), tmp_path)
    assert (tmp_path / RECORD).read_text() == before
