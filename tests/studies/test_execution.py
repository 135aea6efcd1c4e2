"""The order in which jobs run, without processes."""

from collections import Counter

import pytest

from mtmed.errors import InputError
from mtmed.studies.execution import execute
from mtmed.studies.progress import StudyProgress, seconds_left
from mtmed.studies.study_folder import DONE, StudyFolder


class FakeJob:
    def __init__(self, polls, status):
        self.left, self.status, self.calls = polls, status, []

    def poll(self):
        self.left -= 1
        return self.status if self.left < 0 else None

    def terminate(self):
        self.calls.append("terminate")

    def wait_ended(self):
        self.calls.append("wait")


class FakeLauncher:
    """Jobs that end after some looks at them, with a status by the words in their name."""

    def __init__(self, plan, slots=1, failing="nothing", locked=()):
        self.plan, self.slots, self.failing, self.locked = plan, slots, failing, list(locked)
        self.started, self.jobs, self.most = [], [], 0

    def start(self, key):
        if key in self.locked:
            self.locked.remove(key)
            return None
        name = self.plan.jobs[key].name
        self.started.append(key)
        self.jobs.append(FakeJob(2, int(self.failing in name)))
        self.most = max(self.most, sum(job.left >= 0 for job in self.jobs))
        return self.jobs[-1]


class Record:
    def __init__(self):
        self.ends, self.waits, self.ticks = {}, [], []

    def started(self, key):
        pass

    def locked(self, key):
        self.waits.append(key)

    def ended(self, key, outcome):
        self.ends[key] = outcome

    def tick(self, running):
        self.ticks.append(len(running))


@pytest.fixture
def run(tmp_path):
    def start(plan, launcher, **more):
        record = Record()
        outcomes = execute(plan, StudyFolder(tmp_path / "out", plan), launcher, record, poll_seconds=0, **more)
        return outcomes, record

    return start


def mark_finished(folder, key, seconds):
    folder.output_dir(key).mkdir(parents=True)
    (folder.job_folder(key) / DONE).write_text(f'{{"exit_status": 0, "seconds": {seconds}}}')


@pytest.mark.parametrize("slots", [1, 3, 100])
def test_every_job_runs_once_after_what_it_needs_and_no_more_at_once_than_allowed(plan, run, slots):
    made = plan({"seeds": [0, 1], "fractions": [50, 100]})
    launcher = FakeLauncher(made, slots)
    outcomes, record = run(made, launcher)
    assert Counter(launcher.started) == Counter(made.jobs.keys())
    assert set(outcomes.values()) == {"finished"}
    assert record.ends == outcomes
    assert launcher.most <= slots
    assert max(record.ticks) == min(slots, launcher.most)
    position = {key: number for number, key in enumerate(launcher.started)}
    assert all(position[need] < position[key] for key, job in made.jobs.items() for need in job.needs.values())


def test_one_after_another_a_run_is_whole_before_the_next_begins(plan, run):
    made = plan()
    launcher = FakeLauncher(made)
    run(made, launcher)
    assert launcher.started == list(made.jobs)


def test_a_failed_job_blocks_what_needs_it_and_nothing_else(plan, run):
    made = plan()
    outcomes, record = run(made, FakeLauncher(made, 2, failing="pretrain-"))
    by_step = {(made.jobs[key].step, "pretrained" in made.jobs[key].name): outcomes[key] for key in made.jobs}
    assert by_step == {
        ("pretrain", True): "failed",
        ("train", True): "blocked",
        ("evaluate", True): "blocked",
        ("train", False): "finished",
        ("evaluate", False): "finished",
    }
    assert record.ends == outcomes


def test_what_is_finished_is_not_run_again_unless_its_output_is_gone(plan, run, tmp_path):
    made = plan()
    folder = StudyFolder(tmp_path / "out", made)
    finished, gone, *_ = made.jobs
    mark_finished(folder, finished, 5)
    mark_finished(folder, gone, 5)
    folder.output_dir(gone).rmdir()
    launcher = FakeLauncher(made)
    outcomes, _ = run(made, launcher)
    assert finished not in launcher.started
    assert gone in launcher.started
    assert outcomes[finished] == "finished"


def test_a_job_that_another_command_runs_is_waited_for_while_others_run(plan, run, monkeypatch):
    monkeypatch.setattr("mtmed.studies.execution._LOCKED_SECONDS", 0)
    made = plan()
    first = next(iter(made.jobs))
    launcher = FakeLauncher(made, 1, locked=[first] * 3)
    outcomes, record = run(made, launcher)
    assert record.waits == [first]
    assert launcher.started[0] != first
    assert Counter(launcher.started) == Counter(made.jobs.keys())
    assert len(outcomes) == len(made.jobs)


@pytest.mark.parametrize("how", ["stopped", "raises"])
def test_what_runs_is_ended_when_the_study_is(plan, run, how):
    made = plan()
    launcher = FakeLauncher(made, 2)

    def stopped():
        if how == "raises":
            raise OSError
        return True

    if how == "raises":
        with pytest.raises(OSError):  # noqa: PT011
            run(made, launcher, stopped=stopped)
    else:
        outcomes, _ = run(made, launcher, stopped=stopped)
        assert outcomes == {}
    assert [job.calls for job in launcher.jobs] == [["terminate", "wait"]] * 2


def test_time_left_is_the_mean_of_each_step_over_the_places(plan, tmp_path):
    made = plan()
    folder = StudyFolder(tmp_path / "out", made)
    assert seconds_left(made, folder, dict.fromkeys(made.jobs, 0.0), 1) is None
    train = [key for key, job in made.jobs.items() if job.step == "train"]
    evaluate = [key for key, job in made.jobs.items() if job.step == "evaluate"]
    for key, seconds in zip(train, (100, 200), strict=False):
        mark_finished(folder, key, seconds)
    mark_finished(folder, evaluate[0], 10)
    left = {train[2]: 50.0, train[3]: 0.0, evaluate[1]: 30.0}
    assert seconds_left(made, folder, left, 1) == pytest.approx(100 + 150 + 0)
    assert seconds_left(made, folder, left, 2) == pytest.approx(125)
    assert seconds_left(made, folder, {train[3]: 0.0}, 8) == pytest.approx(150), "one job cannot be divided"
    pretrain = next(key for key, job in made.jobs.items() if job.step == "pretrain")
    assert seconds_left(made, folder, {pretrain: 0.0}, 1) == pytest.approx(310 / 3), "an unknown step lasts as the mean"


def test_progress_is_lines_where_there_is_no_terminal(plan, tmp_path, capsys):
    made = plan()
    folder = StudyFolder(tmp_path / "out", made)
    first, second, *_ = made.jobs
    progress = StudyProgress(made, folder, slots=1)
    progress.started(first)
    progress.tick({first: 1.0})
    assert progress.text() == "0 of 9 jobs finished, 1 running, 8 waiting"
    mark_finished(folder, first, 60)
    progress.ended(first, "finished")
    progress.ended(second, "failed")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 of 9 jobs finished, 0 running, 9 waiting"
    assert lines[1] == f"started {made.jobs[first].name}"
    assert lines[2].endswith("; 1 of 9 jobs finished, 0 running, 8 waiting, about 0:08:00 left")
    assert lines[3].startswith(f"failed {made.jobs[second].name}: ")
    assert lines[3].endswith("log.txt)")


def test_progress_is_a_bar_on_a_terminal(plan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    made = plan()
    first = next(iter(made.jobs))
    progress = StudyProgress(made, StudyFolder(tmp_path / "out", made), slots=1)
    progress.started(first)
    progress.ended(first, "finished")
    progress.tick({})
    progress.close()
    text = capsys.readouterr().err
    assert " 11%|" in text
    assert "1 of 9 jobs finished" in text
    assert "started" not in text


def test_a_config_that_changes_while_the_study_runs_ends_it(run, plan, tmp_path):
    planned = plan()
    launcher = FakeLauncher(planned)
    config = tmp_path / "bundle" / "evaluate.json"

    def change():
        if launcher.started:
            config.write_text(config.read_text().replace('"folds": 5', '"folds": 4'))
        return False

    with pytest.raises(InputError, match=r"evaluate\.json: changed while the study ran; restore it"):
        run(planned, launcher, stopped=change)
    assert {planned.jobs[key].step for key in launcher.started} == {"train"}
    assert launcher.jobs[-1].left < 0 or launcher.jobs[-1].calls == ["terminate", "wait"]
