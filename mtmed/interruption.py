"""Signals that ask a process to end, heard at once or when what is under way is whole."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

__all__ = ["SIGNALS", "UNFINISHED", "Interruption", "end_at_once"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what a scheduler, ``docker stop`` or torchrun sends; what SLURM's ``--signal=USR1@60`` sends beforehand."""

UNFINISHED = 75
"""Exit status of a process that was asked to end: EX_TEMPFAIL of sysexits.h, "the user is invited to try again"."""

_PATIENCE = 20.0  # seconds; schedulers and torchrun kill after 30
_ONE_SIGNAL = 1.0  # seconds in which a terminal, a scheduler and torchrun may all pass on the same request


def end_at_once() -> dict[int, Any]:
    """Let `SIGNALS` end the process where it stands, as where nothing is under way; those that are ignored stay so.

    Only the main thread can do so; elsewhere nothing changes.

    Returns:
        What heard each signal that was changed before, for ``signal.signal``.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    heard = {number: what for number, what in before.items() if what not in (None, signal.SIG_IGN)}
    for number in heard:
        signal.signal(number, signal.SIG_DFL)
    return heard


class Interruption:
    """Hears SIGINT, SIGTERM and SIGUSR1.

    The first signal is noted in `number`, for a loop that asks after each step and then calls `leave`; if there is
    something to do `at_once`, it is done wherever the main thread is. A second signal, a second or more later, ends the
    process, and so does the passing of 20 seconds, whatever is still going on. Processes forked from this one, as a
    loader's workers, leave Ctrl-C to it and end by the others.

    When the main thread has run to its end, a signal ends the process as if nothing listened.

    Signals that were ignored before stay ignored, as in a job in the background. Only the main thread can listen;
    elsewhere nothing is heard.

    Attributes:
        number: number of the signal that was heard; None before.
        at_once: what is done when it is heard, for example `leave`; None for nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once: Callable[[], object] | None = None
        self._heard_at = 0.0
        self._process = 0
        self._before: dict[int, Any] = {}
        self._limit: threading.Timer | None = None

    def listen(self) -> None:
        """Begin to listen; what listened before is kept aside."""
        if threading.current_thread() is not threading.main_thread() or self._before:
            return
        self.number, self._process = None, os.getpid()
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._hear)

    def release(self) -> None:
        """Hand the signals back to what listened before; a process that shall end still does so in time."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
        if self._limit is not None and self.number == signal.SIGINT:
            # what is interrupted by hand, as in a notebook, may go on
            self._limit.cancel()

    def leave(self, text: str = "interrupted; run the same command again") -> NoReturn:
        """Say why on standard error, and end.

        Args:
            text: what is said; nothing if it is empty.

        Raises:
            KeyboardInterrupt: after SIGINT, with `text`, which is left to whoever catches it; shells see status 130.
            SystemExit: after the others, with status 75.
        """
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt(text)
        if text:
            print(text, file=sys.stderr, flush=True)
        raise SystemExit(UNFINISHED)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if number != signal.SIGINT:
                _die_of(number)
            return
        if _python_ends(frame):
            # nothing is under way, and an exception would show as one that is ignored
            _die_of(number)
        now = time.monotonic()
        if self.number is None:
            self.number, self._heard_at = number, now
            self._limit = threading.Timer(_PATIENCE, self._end)
            self._limit.daemon = True
            self._limit.start()
            if self.at_once is not None:
                self.at_once()
        elif now - self._heard_at > _ONE_SIGNAL:
            self._end()

    def _end(self) -> NoReturn:
        """End without waiting for anything; every file is written under another name until it is whole."""
        print("interrupted; the same command continues from the last checkpoint", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT if self.number == signal.SIGINT else UNFINISHED)


def _python_ends(frame: FrameType | None) -> bool:
    """Whether the main thread has run to its end; Python then waits for other threads and calls what `atexit` knows."""
    if not threading.main_thread().is_alive():
        return True
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == threading.__name__


def _die_of(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
