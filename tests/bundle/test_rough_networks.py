"""Which rough lesion networks a run needs, and when one that is there serves again."""

import importlib
import json
import os
from pathlib import Path

import pytest

from mtmed.bundle.rough_networks import MERGED_LESIONS, rough_networks
from mtmed.data import Case
from mtmed.errors import InputError
from mtmed.inferers.rough_lesions import GROUND_TRUTH

# the package has a function of this name
MODULE = importlib.import_module("mtmed.bundle.rough_networks")
CONFIG = {"variant": "multi_input", "seed": 0, "epochs": 50, "device": "cpu", "output_dir": "run"}


class Parser:
    def __init__(self, config):
        self.config = config

    def get(self):
        return self.config


@pytest.fixture
def trainings(monkeypatch):
    """Configs that were run in place of being trained."""
    started = []

    def run_config(config, path, *, what, bundle):
        started.append((what, config))
        Path(config["output_dir"], "last.pt").write_text(json.dumps(config["held_out_patients"]))

    monkeypatch.setattr(MODULE, "run_config", run_config)
    monkeypatch.setattr(MODULE, "active_parser", lambda: Parser(dict(CONFIG)))
    return started


@pytest.fixture
def cases(tmp_path):
    made = []
    for patient in "abcde":
        for visit in "12":
            path = tmp_path / f"{patient}{visit}.nii"
            path.write_text(patient)
            made.append(Case(id=f"{patient}{visit}", image=(str(path),), label=None, group=patient, dataset="D"))
    return made


@pytest.fixture
def networks(tmp_path, cases):
    def start(lesions="out_of_fold", folds=2, chosen=None, overrides=None, run="run"):
        output = tmp_path / run
        output.mkdir(exist_ok=True)
        return rough_networks(
            cases if chosen is None else chosen,
            lesions=lesions,
            folds=folds,
            folder=tmp_path / "rough",
            overrides={"variant": "single", "epochs": 3, **(overrides or {})},
            output_dir=output,
        )

    return start


def test_each_patient_gets_the_network_that_was_trained_without_them(networks, trainings):
    for folds in (2, 3, 5):
        checkpoints = networks(folds=folds)
        assert set(checkpoints) == {"", *(f"D/{patient}{visit}" for patient in "abcde" for visit in "12")}
        assert len(set(checkpoints.values())) == folds + 1
        for case, path in checkpoints.items():
            held_out = json.loads(Path(path).read_text())
            assert (case[:3] in held_out) == (case != "")
            assert held_out == [] or 5 // folds <= len(held_out) <= -(-5 // folds)
    assert networks(folds=9) == networks(folds=5)


def test_the_rough_config_is_the_running_one_with_overrides(networks, trainings, tmp_path):
    networks("in_sample")
    ((what, config),) = trainings
    assert what == "rough lesion network 1 of 1"
    own = {"variant": "single", "epochs": 3, "held_out_patients": [], "output_dir": config["output_dir"]}
    assert config == {**CONFIG, **own}
    assert Path(config["output_dir"]).parent == tmp_path / "rough"


def test_in_sample_needs_one_network_and_ground_truth_no_other(networks, trainings, cases):
    in_sample = networks("in_sample")
    assert list(in_sample) == [""]
    ground_truth = networks("ground_truth")
    assert ground_truth == {**in_sample, **{case.key: GROUND_TRUTH for case in cases}}
    assert len(trainings) == 1


def test_nothing_is_trained_for_nothing(networks, trainings, tmp_path):
    assert networks("none") == {}
    assert trainings == []
    assert not (tmp_path / "rough").exists()


def test_the_network_of_all_cases_is_kept_beside_the_run(networks, trainings, tmp_path):
    for lesions in MERGED_LESIONS[:3]:
        checkpoints = networks(lesions, run=lesions)
        assert (tmp_path / lesions / "rough.pt").read_bytes() == Path(checkpoints[""]).read_bytes()
        assert [path.name for path in (tmp_path / lesions).iterdir()] == ["rough.pt"]


def test_finished_networks_are_found_again(networks, trainings):
    first = networks()
    assert len(trainings) == 3
    assert networks() == first
    assert len(trainings) == 3


def test_a_network_that_did_not_finish_is_trained_again(networks, trainings):
    first = networks("in_sample")
    Path(first[""]).with_name("finished").unlink()
    assert networks("in_sample") == first
    assert len(trainings) == 2


def test_where_and_how_the_run_goes_does_not_matter(networks, trainings, monkeypatch):
    first = networks("in_sample")
    other = {**CONFIG, "device": "cuda", "output_dir": "elsewhere", "epochs": 99, "run": [], "initialize": ["$x"]}
    monkeypatch.setattr(MODULE, "active_parser", lambda: Parser(other))
    assert networks("in_sample", run="other") == first


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 4}, {"spacing": [1, 1, 1]}])
def test_another_setting_makes_another_network(change, networks, trainings):
    assert networks("in_sample") != networks("in_sample", overrides=change)
    assert len(trainings) == 2


def test_other_cases_or_changed_files_make_another_network(networks, trainings, cases):
    whole = networks("in_sample")
    assert networks("in_sample", chosen=cases[:-2]) != whole
    os.utime(cases[0].files[0], ns=(0, 0))
    assert networks("in_sample") != whole
    assert len(trainings) == 3


def test_a_file_of_a_held_out_patient_may_change(networks, trainings, cases):
    before = networks(folds=5)
    os.utime(cases[0].files[0], ns=(0, 0))
    after = networks(folds=5)
    assert {key for key in after if after[key] == before[key]} == {case.key for case in cases[:2]}


@pytest.mark.parametrize(
    ("lesions", "folds", "text"),
    [("all", 2, "choose one of out_of_fold"), ("out_of_fold", 1, "rough_folds: is 1")],
)
def test_what_cannot_be_is_refused(lesions, folds, text, networks, trainings):
    with pytest.raises(InputError, match=text):
        networks(lesions, folds)
    assert trainings == []


def test_one_patient_cannot_be_out_of_fold(networks, trainings, cases):
    with pytest.raises(InputError, match="use --merged_lesions in_sample"):
        networks(chosen=cases[:2])
    assert list(networks("in_sample", chosen=cases[:2])) == [""]
