import json
from pathlib import Path

import fire
import pytest
from fake_bundle import CONFIGS

from mtmed.errors import InputError
from mtmed.studies import make_plan, read_study
from mtmed.studies.record import keep_record
from mtmed.studies.study_folder import StudyFolder


def words(command):
    """Overrides of a command as MONAI reads them."""
    read = {}
    fire.Fire(lambda **given: read.update(given), command=command[command.index("run") + 1 :])
    return read


def jobs(plan, step):
    return [job for job in plan.jobs.values() if job.step == step]


def test_the_same_command_is_one_job(plan):
    made = plan({"seeds": [0, 1]})
    assert len(made.runs) == 2 * 2 * 2
    assert len(jobs(made, "pretrain")) == 2, "one per seed, shared by the folds"
    assert len(jobs(made, "train")) == len(jobs(made, "evaluate")) == 8
    with_pretraining = [run for run in made.runs if run.arm == "pretrained" and run.seed == 1]
    assert len({run.jobs["pretrain"] for run in with_pretraining}) == 1
    assert all("pretrain" not in run.jobs for run in made.runs if run.arm == "scratch")


def test_a_step_that_no_scored_step_reads_is_left_out(plan):
    assert plan({"arms::scratch": {}}).jobs.keys() == plan().jobs.keys()


def test_what_a_job_needs_comes_before_it_and_compared_arms_come_side_by_side(plan):
    made = plan()
    order = list(made.jobs)
    assert all(order.index(need) < order.index(key) for key, job in made.jobs.items() for need in job.needs.values())
    assert [(run.fold, run.arm) for run in made.runs][:3] == [(0, "scratch"), (0, "pretrained"), (1, "scratch")]
    scored = made.runs[1].jobs["evaluate"]
    assert made.needed_by(scored) == {made.runs[1].jobs["train"], made.runs[1].jobs["pretrain"]}


def test_a_command_gives_configs_overrides_what_varies_and_the_folders_of_what_it_needs(plan, tmp_path):
    made = plan(
        {"steps::train::config": ["train.json", "quick.json"], "fractions": [12.5]}, "train.network_def#bias=false"
    )
    folder, run = StudyFolder(tmp_path / "out", made), made.runs[1]
    given = words(folder.command(run.jobs["train"]))
    assert given == {
        "config_file": [str(tmp_path / "bundle" / name) for name in ("train.json", "quick.json")],
        "dataset_dir": str(Path("d").absolute()),
        "pretrained": str(folder.output_dir(run.jobs["pretrain"]) / "encoder.pt"),
        "network_def::bias": False,
        "fold": 0,
        "fraction": 12.5,
        "seed": 0,
        "output_dir": str(folder.output_dir(run.jobs["train"])),
    }
    assert words(folder.command(run.jobs["evaluate"]))["checkpoint"].startswith(
        str(folder.output_dir(run.jobs["train"]))
    )


@pytest.mark.parametrize(
    "value", ["5", "a,b", "true", "x y'z\"", "$@a + 1", "-1", "None", [1, 2.5, "a"], {"a": [True, None]}, True, 1e-5]
)
def test_a_value_arrives_as_it_was_written(plan, tmp_path, value):
    made = plan({"inputs::rate": value, "steps::train::overrides::learning_rate": "{rate}"})
    command = StudyFolder(tmp_path, made).command(made.runs[0].jobs["train"])
    assert words(command)["learning_rate"] == value
    assert type(words(command)["learning_rate"]) is type(value)


def test_later_layers_win_and_null_brings_the_default_back(plan):
    changes = {
        "overrides": {"learning_rate": 1, "seconds": 1},
        "steps::train::overrides::learning_rate": 2,
        "steps::train::overrides::split_seed": 0,
        "arms::pretrained::train::learning_rate": 3,
        "arms::pretrained::train::split_seed": None,
    }
    given = plan(changes).overrides
    assert given["scratch"]["train"]["learning_rate"] == 2
    assert given["pretrained"]["train"]["learning_rate"] == 3
    assert "split_seed" in given["scratch"]["train"]
    assert "split_seed" not in given["pretrained"]["train"]
    assert given["scratch"]["evaluate"]["seconds"] == 1
    assert "learning_rate" not in given["scratch"]["evaluate"], "its config has no such key"
    given = plan(changes, "learning_rate=4", "evaluate.seconds=5").overrides
    assert given["pretrained"]["train"]["learning_rate"] == given["scratch"]["train"]["learning_rate"] == 4
    assert [given["scratch"][step]["seconds"] for step in ("train", "evaluate")] == [1, 5]


def test_a_step_keeps_to_what_it_reads_from_a_checkpoint_unless_it_is_meant(plan):
    for made in (plan({"overrides": {"depth": 5}}), plan(None, "depth=5")):
        assert made.overrides["scratch"]["train"]["depth"] == 5
        assert "depth" not in made.overrides["scratch"]["evaluate"]
    assert plan(None, "depth=5", "evaluate.depth=6").overrides["scratch"]["evaluate"]["depth"] == 6


def test_jobs_are_named_after_what_tells_them_apart(plan):
    made = plan({"seeds": [3]})
    run = made.runs[1]
    key = run.jobs["evaluate"]
    assert made.jobs[key].name == f"evaluate-pretrained-fold0-fraction100-seed3-{key}"
    assert made.jobs[run.jobs["pretrain"]].name == f"pretrain-pretrained-seed3-{run.jobs['pretrain']}"


def test_where_a_job_runs_does_not_change_what_it_is(plan):
    assert plan().jobs.keys() == plan(None, "device=cuda:1").jobs.keys()
    assert not plan().jobs.keys() & plan(None, "seconds=1").jobs.keys()
    assert plan().jobs.keys() <= plan({"folds": [2, 1, 0], "seeds": [1, 0]}).jobs.keys(), "only runs were added"


def test_a_job_keeps_its_folder_when_an_added_arm_changes_its_name(plan, tmp_path):
    before = plan()
    key = before.runs[1].jobs["pretrain"]
    old = StudyFolder(tmp_path / "out", before).job_folder(key)
    old.mkdir(parents=True)
    changes = {"arms::slow": {"train": {"pretrained": "{pretrain}/encoder.pt", "learning_rate": 0.01}}}
    after = plan(changes)
    assert after.jobs[key].name != before.jobs[key].name, "it is no longer of one arm"
    assert StudyFolder(tmp_path / "out", after).job_folder(key) == old


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"steps::train::config": "trian.json"}, [], "trian.json is no file; did you mean 'train.json'?"),
        ({"steps::evaluate::vary": ["fold", "fraction"]}, [], "evaluate.json has no key 'fraction'; take fraction out"),
        ({"steps::train::overrides::learning_rat": 1}, [], "has no such key; did you mean 'learning_rate'?"),
        (
            {"arms::scratch::train": {"network_def#in_feature": 1}},
            [],
            "in_feature: train.json has no such key; did you",
        ),
        ({"arms::scratch::train": {"netwrk_def#in_features": 1}}, [], "has no such key"),
        ({"arms::scratch::train": {"output_dir": "x"}}, [], "output_dir: is set by the study itself"),
        ({"arms::scratch::train": {"fold": 1}}, [], "fold: is set by the study itself"),
        ({"overrides": {"optimiser": 1}}, [], "overrides: optimiser: no step's config has such a key"),
        ({}, ["learning_rte=1"], "--set: learning_rte: no step's config has such a key; did you mean 'learning_rate'?"),
        ({}, ["width=1"], "--set: width: is read from the checkpoint; set evaluate.width if that is meant"),
        ({}, ["evaluate.learning_rate=1"], "--set: learning_rate: evaluate.json has no such key"),
        ({}, ["seed=1"], "seed: is set by the study itself"),
        (
            {"steps::evaluate::overrides::checkpoint": "{tran}"},
            [],
            "placeholder {tran}, which is neither an earlier step",
        ),
        ({"steps::train::overrides::pretrained": "{evaluate}"}, [], "needs the step 'evaluate', which comes later"),
        (
            {"steps::train::overrides::pretrained": "{pretrain}"},
            [],
            "needs the step 'pretrain', which this arm leaves out",
        ),
        ({"arms::pretrained": {"evaluate": None}}, [], "arms::pretrained: leaves out 'evaluate', which is scored"),
        (
            {"arms::scratch": {"evaluate": None}},
            [],
            "reference_arm: is 'scratch', which leaves out 'evaluate', which is scored",
        ),
        (
            {"arms::scratch": {"pretrain": {"seconds": 1}}},
            [],
            "arms::scratch::pretrain: sets seconds of a step that no scored step of this arm reads; write {pretrain}",
        ),
        (
            {"arms": {"scratch": {}}, "steps::pretrain::overrides": {}, "inputs": {"data": "d"}},
            [],
            "steps::pretrain: runs in no arm, because no scored step reads it; use {pretrain} in a later step",
        ),
        ({"arms::again": {"pretrain": None}}, [], "'scratch' and 'again' run the same commands"),
        ({"inputs::more": 1}, [], "inputs::more: is an input that no step uses"),
        (
            {"seeds": [0, 1], "steps::train::vary": ["fold"], "steps::pretrain::vary": []},
            [],
            "no step before evaluate varies with seed",
        ),
        (
            {
                "seeds": [0, 1],
                "steps::train::vary": ["fold"],
                "steps::pretrain::vary": [],
                "steps::evaluate::vary": ["fold", "seed"],
            },
            [],
            "seeds: has 2 values, but no step before evaluate varies with seed",
        ),
        ({}, ["train.fraction=5"], "fraction: is set by the study itself"),
        ({}, ["folds=[0]"], """--set folds: does not change the study's folds; write {"folds": [0]} into a file"""),
        ({}, ["seeds=1"], "--set seeds: does not change the study's seeds"),
        ({"folds": [5]}, [], "has fold 5, but train of scratch divides into 5 folds, counted from 0"),
        ({"inputs::unlabelled": "d"}, [], "pretrain: in arm 'pretrained', reads the data that evaluate validates"),
        ({"inputs::unlabelled": "d/part"}, [], "reads the data that evaluate validates"),
        ({"inputs::unlabelled": ["e", "."]}, [], "reads the data that evaluate validates"),
        ({"folds": [0, "none"]}, [], "train: in arm 'scratch', trains with fold 'none' on all cases"),
        ({"steps::evaluate::vary": []}, [], "train: varies with the fold and evaluate does not"),
        (
            {"steps::evaluate::vary": [], "steps::train::vary": [], "folds": [0]},
            ["train.fold=1"],
            "has fold 1 and evaluate",
        ),
        ({}, ["train.split_seed=1"], "has split_seed 1 and evaluate has 0: it would train on validated cases"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(plan, changes, settings, message):
    with pytest.raises(InputError) as caught:
        plan(changes, *settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_step_may_read_validated_cases_if_it_varies_with_the_fold_or_says_why(plan, tmp_path):
    made = plan({"inputs::unlabelled": "d", "steps::pretrain::shared_by_folds": "it uses no labels"})
    assert len(jobs(made, "pretrain")) == 1
    plan()
    config = tmp_path / "bundle" / "train.json"
    study = {"inputs::unlabelled": "d", "steps::pretrain::config": "train.json", "steps::pretrain::vary": ["fold"]}
    assert config.is_file()
    assert len(jobs(plan(study), "pretrain")) == 2


def test_all_cases_may_train_where_others_are_scored(plan):
    made = plan({"folds": ["none"], "steps::evaluate::overrides::dataset_dir": "test"})
    assert {run.fold for run in made.runs} == {"none"}
    assert all(job.overrides["fold"] == "none" for job in jobs(made, "train"))


def test_the_configs_of_the_file_are_read_with_their_overlays(plan):
    made = plan({"steps::train::config": ["train.json", "quick.json"]})
    assert made.configs["train"].get("network_def#out_features") == 3
    assert made.configs["train"].get("network_def::in_features") == 2
    assert json.loads(json.dumps(made.configs["train"].content))["learning_rate"] == 0.5


def test_data_are_meant_from_the_folder_of_the_call(study_file, tmp_path, monkeypatch):
    made = []
    for name in ("one", "other"):
        (tmp_path / name / "weights").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        changes = {"inputs::weights": "weights", "steps::train::overrides::pretrained": "{weights}/encoder.pt"}
        made.append(make_plan(read_study([study_file(changes)], ["data=d"])))
    given = [one.overrides["scratch"]["train"] for one in made]
    assert [one["dataset_dir"] for one in given] == [str(tmp_path / name / "d") for name in ("one", "other")]
    assert given[0]["pretrained"] == str(tmp_path / "one" / "weights" / "encoder.pt")
    assert not made[0].jobs.keys() & made[1].jobs.keys()
    keep_record(made[0], tmp_path / "out")
    with pytest.raises(InputError, match="has another dataset_dir in the train of arm 'scratch'"):
        keep_record(made[1], tmp_path / "out")
    demo = make_plan(read_study([study_file()], ["data=$demo()"]))
    assert demo.overrides["scratch"]["train"]["dataset_dir"] == "$demo()"


def test_whole_percentages_are_the_same_jobs_however_they_are_written(plan):
    assert plan({"fractions": [15.0, 100]}).jobs.keys() == plan({"fractions": [15, 100.0]}).jobs.keys()
    assert all(len(key) == 16 for key in plan().jobs)


def test_trained_and_scored_share_of_the_labels_must_be_the_same(plan, monkeypatch):
    monkeypatch.setitem(CONFIGS, "evaluate", {**CONFIGS["evaluate"], "fraction": 100})
    plan()
    plan({"fractions": [5, 100], "steps::evaluate::vary": ["fold", "fraction"]})
    with pytest.raises(InputError, match="train: in arm 'scratch', has fraction 5, 100 and evaluate has 100; let both"):
        plan({"fractions": [5, 100]})


def test_a_step_without_folds_is_not_told_to_vary_with_them(plan):
    with pytest.raises(InputError) as caught:
        plan({"inputs::unlabelled": "d"})
    assert "add 'fold'" not in str(caught.value)
    assert "shared_by_folds" in str(caught.value)


SHARES = [70, 20, 10]


def test_steps_that_divide_by_shares_must_divide_alike(plan, monkeypatch):
    for step in ("train", "evaluate"):
        config = {key: value for key, value in CONFIGS[step].items() if key != "folds"}
        monkeypatch.setitem(CONFIGS, step, {**config, "shares": SHARES, "split_key": "patient"})
    assert len(plan({"folds": [0, 1, 7]}).runs) == 6, "how many folds there are, the data say"
    for key, value in (("shares", [60, 20, 20]), ("split_key", "patient_day")):
        with pytest.raises(InputError, match=f"has {key} .* and evaluate has .*: it would train on validated cases"):
            plan({f"steps::train::overrides::{key}": value})
    with pytest.raises(InputError, match="train: varies with the fold and evaluate does not"):
        plan({"steps::evaluate::vary": []})


def test_shares_and_folds_do_not_divide_the_same_cases(plan, monkeypatch):
    config = {key: value for key, value in CONFIGS["evaluate"].items() if key != "folds"}
    monkeypatch.setitem(CONFIGS, "evaluate", {**config, "shares": SHARES})
    with pytest.raises(InputError, match="in arm 'scratch', evaluate divides by 'shares' and train by 'folds'"):
        plan()
    assert plan({"steps::evaluate::overrides::dataset_dir": "test"}).runs
