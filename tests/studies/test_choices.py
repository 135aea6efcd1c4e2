"""Steps that read other arms, or the arm that a choice took: what is planned, and what is refused."""

import json
from pathlib import Path

import pytest
from fake_bundle import CHOICES, CONFIGS

from mtmed.errors import InputError
from mtmed.studies.collect import collect_results
from mtmed.studies.job import ChoiceJob
from mtmed.studies.record import RECORD, keep_record
from mtmed.studies.study_folder import StudyFolder


@pytest.fixture
def chosen(plan):
    """Plan the study with a choice, and changes."""
    return lambda changes=None, *settings: plan({**CHOICES, **(changes or {})}, *settings)


def run_of(plan, arm, fold=0, seed=0):
    return next(run for run in plan.runs if (run.arm, run.fold, run.seed) == (arm, fold, seed))


def choices(plan):
    return [job for job in plan.jobs.values() if isinstance(job, ChoiceJob)]


def test_a_choice_is_one_job_per_fold_that_needs_all_its_arms_and_seeds(chosen):
    made = chosen()
    assert [job.varied for job in choices(made)] == [{"fold": 0, "fraction": 100}, {"fold": 1, "fraction": 100}]
    job = choices(made)[1]
    assert job.name == f"choice-mode-fold1-fraction100-{job.key}"
    assert job.candidates == {
        arm: {seed: run_of(made, arm, 1, seed).jobs["train"] for seed in (0, 1)} for arm in ("joint", "pretrained")
    }
    assert set(job.needs.values()) == {key for of_arm in job.candidates.values() for key in of_arm.values()}


def test_what_is_needed_stands_before_what_needs_it_through_choices_and_arms(chosen):
    made = chosen()
    order = list(made.jobs)
    assert all(order.index(need) < order.index(key) for key, job in made.jobs.items() for need in job.needs.values())
    student = run_of(made, "student", seed=1)
    needed = made.needed_by(student.jobs["evaluate"])
    trainings = [run_of(made, arm, seed=seed).jobs["train"] for arm in ("joint", "pretrained") for seed in (0, 1)]
    assert needed >= {student.jobs["distill"], choices(made)[0].key, run_of(made, "scratch", seed=1).jobs["train"]}
    assert needed >= {*trainings, run_of(made, "pretrained", seed=1).jobs["pretrain"]}


def test_placeholders_are_folders_of_the_same_fold_and_seed(chosen, tmp_path):
    made = chosen()
    folder, student = StudyFolder(tmp_path, made), run_of(made, "student", 1, 1)
    words = folder.command(student.jobs["distill"])
    link = folder.output_dir(choices(made)[1].key) / "seed1" / "train"
    teachers = f'"{link}/last.pt", "{folder.output_dir(run_of(made, "scratch", 1, 1).jobs["train"])}/last.pt"'
    assert f"--teachers=[{teachers}]" in words
    assert f"--checkpoint={link}/last.pt" in folder.command(run_of(made, "teacher", 1, 1).jobs["evaluate"])


def test_jobs_that_read_another_seed_of_a_choice_are_other_jobs(chosen):
    made = chosen()
    keys = {run_of(made, "teacher", seed=seed).jobs["evaluate"] for seed in (0, 1)}
    assert len(keys) == 2
    assert {made.jobs[key].name.split("-")[-2] for key in keys} == {"seed0", "seed1"}


def test_an_arm_runs_only_what_its_scored_step_reads(chosen):
    made = chosen()
    steps = {run.arm: list(run.jobs) for run in made.runs}
    assert steps == {
        "scratch": ["train", "evaluate"],
        "joint": ["train", "evaluate"],
        "pretrained": ["pretrain", "train", "evaluate"],
        "teacher": ["evaluate"],
        "student": ["distill", "evaluate"],
    }


def test_arms_that_are_only_compared_or_read_need_no_scores(chosen):
    arms = {
        **CHOICES["arms"],
        "joint": {"train": {"best": 0.4}, "evaluate": None},
        "other": {"train": {"best": 0.2}, "evaluate": None},
        "second": {"evaluate": {"checkpoint": "{other.train}/last.pt"}},
    }
    made = chosen({"arms": arms})
    assert list(run_of(made, "joint").jobs) == list(run_of(made, "other").jobs) == ["train"]
    with pytest.raises(InputError, match="arms::other: leaves out 'evaluate', which is scored"):
        chosen({"arms": {name: arm for name, arm in arms.items() if name != "second"}})


def test_seeds_may_be_added_and_then_it_is_another_choice(chosen, tmp_path):
    before, after = chosen(), chosen({"seeds": [0, 1, 2]})
    assert not {job.key for job in choices(before)} & after.jobs.keys()
    trained = {key for key, job in before.jobs.items() if job.step == "train"}
    assert trained <= after.jobs.keys()
    keep_record(before, tmp_path)
    keep_record(after, tmp_path)


def test_another_choice_of_the_same_name_is_another_study(chosen, tmp_path):
    keep_record(chosen(), tmp_path)
    among = ["joint", "pretrained", "scratch"]
    changed = chosen({"choices": {"mode": {"among": among, "step": "train"}}})
    with pytest.raises(InputError, match="has the choice 'mode' among joint, pretrained, unlike this study"):
        keep_record(changed, tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    del record["choices"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    keep_record(changed, tmp_path)  # a folder of before there were choices


def test_a_step_may_run_because_an_added_arm_reads_it(chosen, tmp_path):
    keep_record(chosen(), tmp_path)
    more = {"evaluate": {"checkpoint": "{joint.distill}/last.pt"}}
    after = chosen({"arms": {**CHOICES["arms"], "more": more}})
    assert list(run_of(after, "joint").jobs) == ["train", "distill", "evaluate"]
    keep_record(after, tmp_path)


def arms_with(**changes):
    return {"arms": {**CHOICES["arms"], **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": {"mo-de": {}}}, "choices::mo-de: is no name"),
        ({"choices": {"train": {}}}, "choices::train: is the name of a step too"),
        ({"choices": {"joint": {}}}, "choices::joint: is the name of an arm too"),
        ({"choices": {"data": {}}}, "choices::data: is the name of an input too"),
        ({"choices": {"mode": {"amung": []}}}, "choices::mode::amung: unknown key; did you mean 'among'?"),
        ({"choices": {"mode": {"among": ["joint"], "step": "trian"}}}, "choices::mode::step: is 'trian', not a step"),
        ({"choices": {"mode": {"among": [], "step": "train"}}}, "choices::mode::among: is []"),
        ({"choices": {"mode": {"among": ["joi"], "step": "train"}}}, "has 'joi', not an arm; did you mean 'joint'?"),
        ({"choices": {"mode": {"among": ["joint"], "step": "train", "title": 1}}}, "choices::mode::title: is 1"),
        (arms_with(joint={"train": None}), "choices::mode::among: has 'joint', which leaves out the step 'train'"),
        (arms_with(joint={"evaluate": {"checkpoint": "{mode}/last.pt"}}), "{mode}, which is neither"),
        (
            arms_with(teacher={"evaluate": {"checkpoint": "{mode.evaluate}/last.pt"}}),
            "the choice 'mode' compares the step 'train'; write {mode.train}",
        ),
        (
            arms_with(teacher={"evaluate": {"checkpoint": "{moda.train}/last.pt"}}),
            "'moda' is neither an arm nor a choice; did you mean 'mode'?",
        ),
        (
            arms_with(teacher={"evaluate": {"checkpoint": "{joint.trian}/last.pt"}}),
            "'trian' is not a step; did you mean 'train'?",
        ),
        (
            arms_with(scratch={"distill": None}, teacher={"evaluate": {"checkpoint": "{scratch.distill}/last.pt"}}),
            "the arm 'scratch' leaves out the step 'distill'; keep that step in the arm",
        ),
        (
            arms_with(joint={"train": {"teachers": ["{mode.train}/last.pt"]}}),
            "arms::joint::train: waits for itself: joint.train reads joint.train; let one of them",
        ),
        (
            arms_with(
                scratch={"train": {"teachers": ["{teacher.evaluate}"]}},
                teacher={"evaluate": {"checkpoint": "{scratch.train}/last.pt"}},
            ),
            "waits for itself: scratch.train reads teacher.evaluate reads scratch.train",
        ),
        (arms_with(joint={}), "choices::mode: 'scratch' and 'joint' run the same"),
        ({"score::pooled": ["image_auc", 1]}, "score::pooled: has 1; give a list of entries of summary.json"),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_anything_runs(chosen, changes, message):
    if "run the same" in message:
        changes = {**changes, "choices": {"mode": {"among": ["scratch", "joint"], "step": "train"}}}
    with pytest.raises(InputError) as caught:
        chosen(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arm", "owner"),
    [("joint", "joint"), ("teacher", "pretrained"), ("student", "scratch")],
)
def test_a_leak_is_seen_through_choices_and_other_arms(chosen, monkeypatch, arm, owner):
    """The step that divides otherwise is not scored in its own arm, so that only the reader leaks."""
    monkeypatch.setitem(CONFIGS, "train", {**CONFIGS["train"], "split_seed": 0})
    changed = {name: {**steps, "evaluate": None} for name, steps in CHOICES["arms"].items() if name == owner}
    changed[owner]["train"] = {**CHOICES["arms"][owner].get("train", {}), "split_seed": 1}
    if owner == "joint":
        changed[owner].pop("evaluate")
    reference = {"reference_arm": None} if owner == "scratch" else {}
    with pytest.raises(InputError, match=f"train: in arm {owner!r}, has split_seed 1 and evaluate has 0"):
        chosen({**arms_with(**changed), **reference})


def test_the_folder_of_a_job_is_found_again_by_its_key(chosen, tmp_path):
    made = chosen()
    job = choices(made)[0]
    (tmp_path / "jobs" / f"choice-renamed-{job.key}").mkdir(parents=True)
    assert StudyFolder(tmp_path, made).output_dir(job.key) == Path(tmp_path, "jobs", f"choice-renamed-{job.key}", "run")


def test_what_was_chosen_on_validation_is_not_scored_there(chosen, monkeypatch):
    monkeypatch.setitem(CONFIGS, "evaluate", {**CONFIGS["evaluate"], "part": "validation"})
    with pytest.raises(
        InputError, match=r"arms::\w+::evaluate: scores the validation part, on which the choice 'mode'"
    ):
        chosen()
    assert chosen({}, "part=test").jobs


def test_networks_that_are_scored_together_have_no_curve_of_their_own(chosen, tmp_path):
    made = chosen({"folds": [0], "arms::together": {"evaluate": {"checkpoint": ["{train}/a.pt", "{pretrain}/b.pt"]}}})
    folder = StudyFolder(tmp_path, made)
    for key in made.jobs:
        folder.output_dir(key).mkdir(parents=True, exist_ok=True)
    results = {result.arm: result.training for result in collect_results(folder) if result.seed == 0}
    assert results["together"] is None
    assert results["scratch"] is not None
    assert results["student"] == folder.output_dir(run_of(made, "student").jobs["distill"])
