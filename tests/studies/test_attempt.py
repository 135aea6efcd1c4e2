"""Processes, their logs, locks and markers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtmed.errors import InputError
from mtmed.studies.attempt import start_attempt
from mtmed.studies.study_folder import DONE, FAILED, LOG


def python(script):
    return [sys.executable, "-S", "-c", script]


def ended(attempt):
    patience = time.monotonic() + 20
    while (status := attempt.poll()) is None and time.monotonic() < patience:
        time.sleep(0.01)
    return status


def waits_for(path):
    patience = time.monotonic() + 20
    while not path.exists() and time.monotonic() < patience:
        time.sleep(0.01)
    assert path.exists()


def test_a_job_that_ends_well_is_marked_and_its_output_logged(tmp_path):
    script = "import os, sys; print(os.environ['SHARE']); print('to stderr', file=sys.stderr)"
    folder = tmp_path / "job"
    assert ended(start_attempt(folder, python(script), {"SHARE": "3"})) == 0
    done = json.loads((folder / DONE).read_text())
    assert done["exit_status"] == 0
    assert done["seconds"] >= 0
    assert set((folder / LOG).read_text().splitlines()[1:]) == {"3", "to stderr"}
    assert json.loads((folder / "command.json").read_text())["command"] == python(script)
    assert not (folder / FAILED).exists()


def test_a_failed_job_says_its_last_line_and_the_next_attempt_clears_it(tmp_path):
    assert ended(start_attempt(tmp_path, python("print('10%\\r20%'); import sys; sys.exit('no room\\n\\n')"), {})) == 1
    assert json.loads((tmp_path / FAILED).read_text())["last_line"] == "no room"
    assert not (tmp_path / DONE).exists()
    assert ended(start_attempt(tmp_path, python("print('well')"), {})) == 0
    assert not (tmp_path / FAILED).exists()
    assert (tmp_path / LOG).read_text().count("--- ") == 2, "the log of the first attempt is kept"


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (
            "import os; print('step 3', flush=True); os.kill(os.getpid(), 9)",
            "killed by SIGKILL, perhaps for want of memory",
        ),
        ("import sys; sys.exit(7)", "(no output)"),
    ],
)
def test_a_job_that_says_nothing_is_still_explained(tmp_path, script, line):
    assert ended(start_attempt(tmp_path, python(script), {})) != 0
    assert json.loads((tmp_path / FAILED).read_text())["last_line"].startswith(line)


def test_a_terminated_job_takes_its_children_along_and_is_not_marked(tmp_path):
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid.part')!r}, 'w').write(str(child.pid))\n"
        f"import os; os.rename({str(tmp_path / 'pid.part')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(60)\n"
    )
    attempt = start_attempt(tmp_path, python(script), {})
    waits_for(tmp_path / "pid")
    child = int((tmp_path / "pid").read_text())
    attempt.terminate()
    attempt.wait_ended()
    patience = time.monotonic() + 10
    while running(child) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not running(child)
    assert not (tmp_path / DONE).exists()
    assert not (tmp_path / FAILED).exists()
    assert ended(start_attempt(tmp_path, python("pass"), {})) == 0, "the lock is free"


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_job_that_ignores_the_request_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("mtmed.studies.attempt._GRACE", 0.2)
    script = (
        f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(tmp_path / 'on')!r}, 'w'); time.sleep(60)"
    )
    attempt = start_attempt(tmp_path, python(script), {})
    waits_for(tmp_path / "on")
    attempt.terminate()
    attempt.wait_ended()
    assert attempt.poll() == -signal.SIGKILL
    assert not (tmp_path / FAILED).exists()


def test_only_one_command_runs_a_job_and_the_other_takes_its_result(tmp_path):
    script = f"import time; time.sleep(0.3); import os; os.mkdir({str(tmp_path / 'run')!r})"
    first = start_attempt(tmp_path, python(script), {})
    assert start_attempt(tmp_path, python("print('second')"), {}) is None
    assert ended(first) == 0
    second = start_attempt(tmp_path, python("print('second')"), {})
    assert ended(second) == 0
    second.terminate()
    second.wait_ended()
    assert "\nsecond" not in (tmp_path / LOG).read_text()


def test_a_process_that_outlives_its_study_keeps_its_lock(tmp_path):
    job = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    study = (
        "import os, signal, time\nfrom pathlib import Path\nfrom mtmed.studies.attempt import start_attempt\n"
        f"start_attempt(Path({str(tmp_path)!r}), {python(job)!r}, {{}})\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}) or not open({str(tmp_path / 'pid')!r}).read():\n"
        "    time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", study], check=False).returncode == -signal.SIGKILL
    assert start_attempt(tmp_path, python("pass"), {}) is None
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    patience = time.monotonic() + 10
    while (attempt := start_attempt(tmp_path, python("pass"), {})) is None and time.monotonic() < patience:
        time.sleep(0.02)
    assert attempt is not None
    assert ended(attempt) == 0


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        start_attempt(tmp_path / "file" / "job", python("pass"), {})


def test_a_child_that_ignores_the_request_ends_with_its_parent(tmp_path):
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    script = (
        "import subprocess, sys, os, time\n"
        f"child = subprocess.Popen([sys.executable, '-S', '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"open({str(tmp_path / 'pid.part')!r}, 'w').write(str(child.pid))\n"
        f"os.rename({str(tmp_path / 'pid.part')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(60)\n"
    )
    attempt = start_attempt(tmp_path, python(script), {})
    waits_for(tmp_path / "pid")
    attempt.terminate()
    attempt.wait_ended()
    patience = time.monotonic() + 10
    while running(int((tmp_path / "pid").read_text())) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not running(int((tmp_path / "pid").read_text()))
