"""The command as a user types it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mtmed.cli import main
from mtmed.studies.command import _gpus
from mtmed.studies.study_folder import DONE, LOG


def attempts(folder, pattern):
    return [path.read_text() for path in sorted(folder.glob(f"jobs/{pattern}/run/attempts.txt"))]


@pytest.mark.usefixtures("fast")
def test_a_study_runs_to_its_report_and_again_does_nothing(study_file, tmp_path, reported, capsys):
    words = ["study", str(study_file()), "--output", str(tmp_path / "out"), "--workers", "4"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["the table", f"report: {tmp_path / 'out'}"]
    assert "8 of 9 jobs finished" in err
    results, options = reported[0]
    assert [result.state for result in results] == ["finished"] * 4
    assert options == {
        "title": "A study",
        "metrics": ("dice",),
        "organs": None,
        "reference_arm": "scratch",
        "compare": (),
        "pooled": (),
        "pictured": (),
        "choices": [],
        "output_dir": tmp_path / "out",
    }
    assert main(words) == 0
    assert main([*words, "--report-only"]) == 0
    assert len(reported) == 3
    assert set(attempts(tmp_path / "out", "*")) == {"x"}
    assert len(attempts(tmp_path / "out", "*")) == 9


@pytest.mark.usefixtures("fast")
def test_what_failed_is_in_the_exit_status_and_the_report(study_file, tmp_path, reported, capsys):
    file = study_file({"arms::scratch::train": {"fail": True}, "steps::pretrain::shared_by_folds": "no labels"})
    assert main(["study", str(file), "--output", str(tmp_path / "out")]) == 1
    assert [result.state for result in reported[0][0]] == ["failed", "finished", "failed", "finished"]
    err = capsys.readouterr().err
    assert len(re.findall(r"^failed train-scratch-fold\S+: boom \(log: /\S+log.txt\)$", err, re.MULTILINE)) == 2
    assert len(re.findall("^blocked evaluate-scratch-fold", err, re.MULTILINE)) == 2
    words = ["study", str(file), "--output", str(tmp_path / "out"), "--report-only"]
    config = tmp_path / "bundle" / "evaluate.json"
    config.write_text(config.read_text().replace('"seconds": 0', '"seconds": 1'))
    assert main(words) == 1
    assert "the config of evaluate has changed since the study ran" in capsys.readouterr().err
    assert [result.state for result in reported[1][0]] == [result.state for result in reported[0][0]]
    assert reported[0][1]["title"] == "A study (pretrain reads all folds: no labels)"


def test_a_dry_run_lists_commands_that_a_shell_takes_and_writes_nothing(study_file, tmp_path, capsys):
    assert main(["study", str(study_file()), "--output", str(tmp_path / "out"), "--dry-run", "--set", "data=/a b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line) for line in lines if not line.startswith("#")]
    assert len(commands) == 9
    assert all(words[:4] == [sys.executable, "-m", "monai.bundle", "run"] for words in commands)
    assert sum("--dataset_dir=/a b" in words for words in commands) == 8
    assert lines[-1] == f"# 4 runs of 9 jobs, 0 finished, in {tmp_path / 'out'}"
    assert not (tmp_path / "out").exists()


def test_a_dry_run_into_a_closed_pipe_ends_quietly(study_file, tmp_path):
    words = [sys.executable, "-m", "mtmed.cli", "study", str(study_file()), "--output", str(tmp_path), "--dry-run"]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.json"], "nowhere.json: cannot be read"),
        (["study.json", "--workers", "0"], "--workers: is 0"),
        (["study.json", "--report-only"], "holds no study"),
        (["study.json", "--set", "seconds"], "is not name=value"),
        (["study.json", "--slurm", "overlay.json"], "--slurm overlay.json: is not key=value; put the study file first"),
    ],
)
def test_what_a_user_can_mend_is_one_line(study_file, tmp_path, monkeypatch, capsys, words, message):
    study_file()
    monkeypatch.chdir(tmp_path / "studies")
    assert main(["study", *words]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "studies" / "runs").exists()


@pytest.mark.usefixtures("fast")
def test_a_folder_with_another_study_is_refused(study_file, tmp_path, reported, capsys):
    words = ["study", str(study_file()), "--output", str(tmp_path / "out"), "--workers", "8"]
    assert main(words) == 0
    assert main([*words, "--set", "learning_rate=1"]) == 1
    assert "has another learning_rate in the train of arm 'scratch'" in capsys.readouterr().err
    assert len(reported) == 1


def test_the_default_folder_is_named_after_the_files(study_file, tmp_path, monkeypatch, capsys):
    study_file()
    (tmp_path / "studies" / "small.json").write_text('{"folds": [0]}')
    monkeypatch.chdir(tmp_path)
    assert main(["study", "studies/study.json", "studies/small.json", "--dry-run"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"in {tmp_path / 'runs' / 'study-small'}")


def test_gpus_are_those_that_the_user_allows(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5")
    assert _gpus() == ["2", "GPU-5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert _gpus() == ["0", "1"]


REAL = {
    "folds": [0],
    "arms": {
        "pretrained": {"train": {"pretrained": "{pretrain}/encoder.pt", "seconds": 60}},
        "broken": {"train": {"pretrained": "{pretrain}/encoder.pt", "fail": True}},
    },
    "reference_arm": None,
}


def stop_amid_training(program, file, folder, number):
    """Start a study, wait until one training works and the other has failed, and send it a signal."""
    command = [*program, "study", str(file), "--output", str(folder), "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    study = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    patience = time.monotonic() + 240
    while not attempts(folder, "train-pretrained-*") or not list(folder.glob("jobs/train-broken-*/failed.json")):
        assert study.poll() is None, study.communicate()
        assert time.monotonic() < patience
        time.sleep(0.05)
    study.send_signal(number)
    out, err = study.communicate(timeout=60)
    assert len(list(folder.glob(f"jobs/*/{DONE}"))) == 1, "only the pre-training is finished"
    return study.returncode, out, err


def goes_on(folder, err):
    """Whether a second call took up what was stopped, and nothing else."""
    assert attempts(folder, "pretrain-*") == ["x"]
    assert attempts(folder, "train-pretrained-*") == ["xx"]
    assert attempts(folder, "train-broken-*") == ["xx"]
    assert attempts(folder, "evaluate-*") == ["x"]
    assert "blocked evaluate-broken-" in err
    log = next(folder.glob("jobs/train-pretrained-*")).joinpath(LOG).read_text()
    return len(re.findall(r"^--- \d{4}-", log, re.MULTILINE)) == 2


@pytest.fixture
def fast_program(fast, monkeypatch):
    """The command with fast jobs, in this process and as another one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    script = (
        "from fake_bundle import use_fast_jobs; from mtmed.cli import main; use_fast_jobs(); raise SystemExit(main())"
    )
    return [sys.executable, "-c", script]


@pytest.fixture
def monai_program():
    """The command, with MONAI's own in every job."""
    return [sys.executable, "-m", "mtmed.cli"]


@pytest.mark.parametrize("program", ["fast_program", pytest.param("monai_program", marks=pytest.mark.slow)])
def test_a_stopped_study_goes_on_where_it_stopped(request, study_file, tmp_path, capsys, program):
    folder, file = tmp_path / "out", study_file(REAL)
    program = request.getfixturevalue(program)
    status, out, err = stop_amid_training(program, file, folder, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert "stopped; the same command goes on from here" in err
    assert "0 of 2 runs have scores" in out
    assert main(["study", str(file), "--output", str(folder), "--workers", "2"]) == 1
    assert goes_on(folder, capsys.readouterr().err)


def test_monai_runs_every_job(study_file, tmp_path, capsys):
    arms = {"scratch": {"pretrain": None}, "broken": {"pretrain": None, "train": {"fail": True}}}
    file = study_file({"folds": [0], "arms": arms, "inputs": {"data": "d"}, "steps::pretrain::overrides": {}})
    assert main(["study", str(file), "--output", str(tmp_path / "out"), "--workers", "2"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"failed train-broken-\S+: the loss is not finite \(log: ", err)
    assert "1 of 2 runs have scores" in out
    assert "failed: broken, 100 %, fold 0, seed 0" in out


def test_a_killed_study_goes_on_when_its_processes_have_ended(study_file, tmp_path, capsys, monkeypatch, fast_program):
    monkeypatch.setattr("mtmed.studies.execution._LOCKED_SECONDS", 0.1)
    folder, file = tmp_path / "out", study_file(REAL)
    status, _, _ = stop_amid_training(fast_program, file, folder, signal.SIGKILL)
    assert status == -signal.SIGKILL
    killer = threading.Timer(1.0, end_the_orphan, [folder])
    killer.start()
    assert main(["study", str(file), "--output", str(folder), "--workers", "2"]) == 1
    killer.join()
    err = capsys.readouterr().err
    assert goes_on(folder, err)
    assert err.count("waiting for train-pretrained-") == 1


def end_the_orphan(folder):
    """A process that outlives its killed study is found by the lock that it holds."""
    lock = next(folder.glob("jobs/train-pretrained-*/.lock"))
    for process in os.listdir("/proc"):
        try:
            held = any(os.path.samefile(f"/proc/{process}/fd/{fd}", lock) for fd in os.listdir(f"/proc/{process}/fd"))
        except OSError:
            continue
        if held:
            os.kill(int(process), signal.SIGKILL)
