import json
import os
import shutil

import pytest

from mtmed.studies.execution import execute, jobs_to_run
from mtmed.studies.launcher import LocalLauncher
from mtmed.studies.progress import StudyProgress
from mtmed.studies.study_folder import DONE, LOG, StudyFolder

NO_PRETRAINING = {"steps::pretrain::overrides": {}}


class Started:
    def __init__(self):
        self.ended = False

    def poll(self):
        return 0 if self.ended else None


@pytest.fixture
def environments(plan, tmp_path, monkeypatch):
    """What two jobs at once, and a third after the first, are given."""

    def start(slots, gpus):
        given, jobs = [], []

        def note(folder, command, environment, needs):
            given.append(environment)
            jobs.append(Started())
            return jobs[-1]

        monkeypatch.setattr("mtmed.studies.launcher.start_attempt", note)
        made = plan()
        launcher = LocalLauncher(StudyFolder(tmp_path, made), slots=slots, gpus=gpus)
        first, second, third, *_ = made.jobs
        launcher.start(first)
        if slots > 1:
            launcher.start(second)
        jobs[0].ended = True
        launcher.start(third)
        return given

    return start


def test_several_at_once_share_cores_and_take_gpus_in_turn(environments, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("mtmed.studies.launcher._cores", lambda: 7)
    first, second, third = environments(2, ["3", "5", "6"])
    assert first == third == {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "3"}
    assert second == {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "5"}
    assert environments(9, ["0"])[0] == {"OMP_NUM_THREADS": "1"}, "the one GPU is everyone's"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environments(2, [])[0] == {}, "the user's own choice"


def test_one_after_another_each_has_the_whole_machine(environments, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environments(1, ["0", "1"]) == [{}, {}]


@pytest.mark.usefixtures("fast")
def test_several_at_once_with_a_failure_and_then_again_without(plan, tmp_path, capsys):
    changes = {"arms::scratch": {"pretrain": None, "train": {"fail": True}}}
    made = plan(changes)
    folder = StudyFolder(tmp_path / "out", made)

    def run():
        progress = StudyProgress(made, folder, slots=3)
        return execute(made, folder, LocalLauncher(folder, slots=3), progress, poll_seconds=0.01)

    outcomes = run()
    names = {made.jobs[key].name.rpartition("-")[0]: outcome for key, outcome in outcomes.items()}
    assert names["train-scratch-fold0-fraction100-seed0"] == "failed"
    assert names["evaluate-scratch-fold1-fraction100-seed0"] == "blocked"
    assert names["evaluate-pretrained-fold1-fraction100-seed0"] == "finished"
    text = capsys.readouterr().err
    failed = next(key for key in outcomes if outcomes[key] == "failed")
    assert f"failed {made.jobs[failed].name}: boom (log: {folder.job_folder(failed) / LOG})" in text
    blocked = next(key for key in outcomes if outcomes[key] == "blocked")
    assert f"blocked {made.jobs[blocked].name}, which needs {made.jobs[failed].name}" in text

    # what failed is tried again, what is finished is not
    outcomes = run()
    starts = {key: (folder.output_dir(key) / "attempts.txt") for key in made.jobs}
    counts = {key: path.read_text() if path.exists() else "" for key, path in starts.items()}
    assert {counts[key] for key in outcomes if outcomes[key] == "finished"} == {"x"}
    assert {counts[key] for key in outcomes if outcomes[key] == "failed"} == {"xx"}
    assert {counts[key] for key in outcomes if outcomes[key] == "blocked"} == {""}
    words = json.loads((folder.job_folder(failed) / "command.json").read_text())["command"]
    assert "--fail=True" in words
    assert os.path.isabs(next(word for word in words if word.startswith("--output_dir=")).partition("=")[2])


@pytest.mark.usefixtures("fast")
def test_what_was_made_from_a_job_that_ran_again_runs_again_and_from_new(plan, tmp_path):
    made = plan({"folds": [0]})
    folder = StudyFolder(tmp_path / "out", made)
    by_step = {job.step: key for key, job in made.jobs.items() if "scratch" not in job.name}

    def run():
        outcomes = execute(
            made, folder, LocalLauncher(folder, slots=2), StudyProgress(made, folder, slots=2), poll_seconds=0.01
        )
        assert set(outcomes.values()) == {"finished"}
        return {step: (folder.output_dir(key) / "attempts.txt").exists() for step, key in by_step.items()}

    assert all(run().values())
    shutil.rmtree(folder.job_folder(by_step["pretrain"]))
    assert run() == {"pretrain": False, "train": True, "evaluate": True}, "nothing that is open needs it"
    shutil.rmtree(folder.output_dir(by_step["evaluate"]))
    assert run() == {"pretrain": False, "train": True, "evaluate": True}, "its training is there"
    shutil.rmtree(folder.job_folder(by_step["train"]))
    (folder.job_folder(by_step["evaluate"]) / DONE).unlink()
    assert all(run().values())
    assert folder.state(by_step["evaluate"]) == "finished"
    # the pre-training and the training were made anew, and so the scores, beside the old ones
    (outdated,) = folder.job_folder(by_step["evaluate"]).glob("outdated-*")
    assert (outdated / "attempts.txt").read_text() == "x"
    assert (folder.output_dir(by_step["evaluate"]) / "attempts.txt").read_text() == "x"
    scratch = next(key for key, job in made.jobs.items() if "evaluate-scratch" in job.name)
    assert not list(folder.job_folder(scratch).glob("outdated-*"))


@pytest.mark.usefixtures("fast")
def test_scores_of_a_training_that_ran_again_do_not_count(plan, tmp_path):
    made = plan({"folds": [0], "arms": {"scratch": {"pretrain": None}}, "inputs": {"data": "d"}, **NO_PRETRAINING})
    folder = StudyFolder(tmp_path / "out", made)
    train, evaluate = made.jobs
    execute(made, folder, LocalLauncher(folder), StudyProgress(made, folder, slots=1), poll_seconds=0.01)
    assert folder.state(evaluate) == "finished"
    command = folder.job_folder(train) / "command.json"
    command.write_text(json.dumps({**json.loads(command.read_text()), "attempt": "another"}))
    assert (folder.state(train), folder.state(evaluate)) == ("finished", "missing")
    assert jobs_to_run(made, folder) == {evaluate}
