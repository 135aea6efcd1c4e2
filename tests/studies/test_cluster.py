"""Submitit's own executor on this machine stands for a scheduler."""

import signal
import sys
import threading
import time

import cloudpickle
import pytest

from mtmed.errors import InputError
from mtmed.studies.cluster import ClusterJob, ClusterLauncher, _Work
from mtmed.studies.execution import execute
from mtmed.studies.progress import StudyProgress
from mtmed.studies.study_folder import DONE, FAILED, StudyFolder

TWO_STEPS = {
    "inputs": {"data": "d"},
    "folds": [0],
    "steps": {
        "train": {"config": "train.json", "vary": ["fold"], "overrides": {"dataset_dir": "{data}"}},
        "evaluate": {"config": "evaluate.json", "vary": ["fold"], "overrides": {"checkpoint": "{train}"}},
    },
    "arms": {"good": {}, "broken": {"train": {"fail": True}}},
    "reference_arm": "good",
}


@pytest.fixture
def folder(plan, tmp_path, fast):
    return StudyFolder(tmp_path / "out", plan(TWO_STEPS))


def test_jobs_are_submitted_when_what_they_need_is_finished(folder, capsys):
    launcher = ClusterLauncher(folder, cluster="local", parameters={"timeout_min": 5})
    progress = StudyProgress(folder.plan, folder, slots=launcher.slots)
    outcomes = execute(folder.plan, folder, launcher, progress, poll_seconds=0.1)
    by_name = {folder.plan.jobs[key].name.rpartition("-")[0]: outcome for key, outcome in outcomes.items()}
    assert by_name == {
        "train-good-fold0": "finished",
        "evaluate-good-fold0": "finished",
        "train-broken-fold0": "failed",
        "evaluate-broken-fold0": "blocked",
    }
    assert "boom (log: " in capsys.readouterr().err
    assert {folder.state(key) for key in outcomes} == {"finished", "failed", "missing"}
    assert list((folder.path / "submitit").glob("*/*_submitted.pkl"))


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="submitit's local executor cancels by interrupts"
)
def test_a_cancelled_job_ends_unmarked_and_a_lost_one_has_failed(folder):
    first = next(iter(folder.plan.jobs))
    launcher = ClusterLauncher(folder, cluster="local")
    assert launcher.slots == len(folder.plan.jobs)
    job = launcher.start(first)
    assert job.poll() is None
    job.terminate()
    job.wait_ended()
    patience = time.monotonic() + 20
    while (status := job.poll()) is None and time.monotonic() < patience:
        time.sleep(0.1)
    assert status == 1
    assert folder.state(first) == "failed"
    assert "see " in folder.last_line(first)


def test_a_job_at_its_time_limit_is_submitted_again_and_goes_on(folder):
    first = next(iter(folder.plan.jobs))
    work = _Work(folder.job_folder(first), [*folder.command(first), "--seconds=60"])
    thread = threading.Thread(target=work)
    thread.start()
    patience = time.monotonic() + 20
    while not (folder.output_dir(first) / "attempts.txt").exists() and time.monotonic() < patience:
        time.sleep(0.01)
    again = work.checkpoint().function
    thread.join()
    (folder.job_folder(first) / FAILED).unlink(missing_ok=True)
    assert folder.state(first) == "missing"
    assert cloudpickle.loads(cloudpickle.dumps(again))() == 0
    assert folder.state(first) == "finished"
    assert (folder.output_dir(first) / "attempts.txt").read_text() == "xx"


def test_what_the_scheduler_does_not_take_is_one_line(folder, monkeypatch):
    with pytest.raises(InputError, match=r"--slurm: .*patition"):
        ClusterLauncher(folder, cluster="local", parameters={"patition": "gpu"})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="run this where jobs can be submitted"):
        ClusterLauncher(folder)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"needs the package submitit; install it: .*mtmed\[cluster\]"):
        ClusterLauncher(folder)


def test_a_job_that_the_scheduler_lost_after_its_work_is_finished(folder):
    class Lost:
        def done(self):
            return True

        def exception(self):
            return RuntimeError("no result")

    first = next(iter(folder.plan.jobs))
    folder.output_dir(first).mkdir(parents=True)
    (folder.job_folder(first) / DONE).write_text("{}")
    assert ClusterJob(Lost(), folder.job_folder(first)).poll() == 0
    assert folder.state(first) == "finished"
