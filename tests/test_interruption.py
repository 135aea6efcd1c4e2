"""A signal that comes when Python has run the program to its end ends it, without a traceback of whatever it met."""

import signal
import subprocess
import sys

import pytest

from mtmed.interruption import SIGNALS

PROGRAM = """
import atexit, signal, threading, time
from mtmed.interruption import Interruption

# as in a terminal, also if the tests run in the background
signal.signal(signal.SIGINT, signal.default_int_handler)

def wait():
    print("ready", flush=True)
    time.sleep(60)

def wait_for_the_end():
    while threading.main_thread().is_alive():
        time.sleep(0.001)
    wait()

interruption = Interruption()
interruption.at_once = interruption.leave
interruption.listen()
"""
MOMENTS = {
    "nothing has ended yet": "wait()",
    "Python begins to end": "threading._register_atexit(wait)",
    "another thread still runs": "threading.Thread(target=wait_for_the_end).start()",
    "Python calls what was registered": "atexit.register(wait)",
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_the_end_of_python_ends_the_process(moment: str, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + MOMENTS[moment]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    if moment == "nothing has ended yet":
        assert "interrupted; run the same command again" in said
    else:
        assert said == ""
        assert process.returncode == -number
    if number != signal.SIGINT:
        assert "Traceback" not in said
