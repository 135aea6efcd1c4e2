"""One attempt at a job: a process with its log, its lock and, at the end, its marker."""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from mtmed.errors import InputError
from mtmed.files import atomic_file, remove_fragments
from mtmed.studies.study_folder import COMMAND, DONE, FAILED, LOG, RUN, attempt_of, is_finished, is_outdated

__all__ = ["Attempt", "NothingToDo", "start_attempt"]

_GRACE = 15.0  # seconds between the polite and the hard end


def start_attempt(
    folder: Path, command: Sequence[str], environment: Mapping[str, str], needs: Sequence[Path] = ()
) -> "Attempt | NothingToDo | None":
    """Start a job's process; its output is appended to the log.

    The job is locked. The process inherits the lock, so that one that outlives its study still keeps others off its
    folder. What an earlier attempt has made from outdated output of other jobs is set aside, so that a training does
    not go on with it.

    Args:
        folder: folder of the job.
        command: words of the command.
        environment: variables of the process beside those of this one.
        needs: folders of the jobs whose output it reads.

    Returns:
        The attempt, which has ended already if the job is finished; None if another process has the job's lock.

    Raises:
        InputError: if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if is_finished(folder, needs):
            os.close(lock)
            return NothingToDo()
        remove_fragments(folder)
        if is_outdated(folder, needs) and (folder / RUN).is_dir():
            (folder / RUN).rename(folder / f"outdated-{attempt_of(folder)}")
        log = open(folder / LOG, "ab")  # noqa: SIM115
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror or error})", "choose another --output") from None
    content = {
        "command": list(command),
        "shell": shlex.join(command),
        "attempt": uuid.uuid4().hex,
        "needs": {needed.name: attempt_of(needed) for needed in needs},
    }
    with atomic_file(folder / COMMAND) as file:
        file.write((json.dumps(content, indent=4) + "\n").encode())
    for marker in (DONE, FAILED):
        (folder / marker).unlink(missing_ok=True)
    # unbuffered, so that the log has lines in the order in which they were said, the last one last
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    return Attempt(folder, command, variables, log=log, lock=lock)


class NothingToDo:
    """Stands for an attempt at a job that another command has finished meanwhile."""

    def poll(self) -> int:
        """Exit status."""
        return 0

    def terminate(self) -> None:
        """There is no process."""

    def wait_ended(self) -> None:
        """There is no process."""


class Attempt:
    """A running process. `start_attempt` makes it."""

    def __init__(
        self, folder: Path, command: Sequence[str], environment: Mapping[str, str], *, log: IO[bytes], lock: int
    ) -> None:
        self.folder, self._log, self._lock = folder, log, lock
        self._started = time.monotonic()
        log.write(f"--- {datetime.now().astimezone().isoformat(timespec='seconds')} {shlex.join(command)}\n".encode())
        log.flush()
        # a session of its own: Ctrl-C reaches the study alone, which then ends the process and all its children
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )

    def poll(self) -> int | None:
        """Exit status, 0 if the job is finished; None while it runs. At the end the marker is written."""
        status = self._process.poll()
        if status is None or self._log.closed:
            return status
        seconds = time.monotonic() - self._started
        ended = datetime.now().astimezone().isoformat(timespec="seconds")
        content: dict[str, Any] = {"exit_status": status, "ended": ended}
        if status:
            content["last_line"] = _reason(status, self.folder / LOG)
        else:
            content["seconds"] = round(seconds, 1)
        with atomic_file(self.folder / (FAILED if status else DONE)) as file:
            file.write((json.dumps(content, indent=4) + "\n").encode())
        self._close()
        return status

    def terminate(self) -> None:
        """Ask the process and its children to end; `wait_ended` sees to it."""
        self._signal(signal.SIGTERM)

    def wait_ended(self) -> None:
        """Wait for the end after `terminate`, at last by force. Nothing is marked."""
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        # children that outlive it would hold the lock
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._close()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        if not self._log.closed:
            self._log.close()
            os.close(self._lock)


def _reason(status: int, log: Path) -> str:
    """Last line of a log, without progress bars; for a process that was killed, by what."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines and not lines[-1].startswith("--- ") else "(no output)"
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", perhaps for want of memory" if -status == signal.SIGKILL else ""
        return f"killed by {name}{memory}; before that: {last}"
    return last
