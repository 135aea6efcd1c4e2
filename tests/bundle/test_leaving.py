"""A process of a distributed training ends without its interpreter being taken apart."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, os, sys, types
from torch import distributed as dist
from mtmed.bundle.leaving import leave

class Held:
    def __init__(self):
        self.write = os.write  # print is gone by then
    def __del__(self):
        self.write(1, b"taken apart")

held = Held()
atexit.register(print, "callback")
__spec__ = types.SimpleNamespace(name=sys.argv[2])
if sys.argv[1] != "alone":
    dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
leave()
print("group", dist.is_initialized())
"""


@pytest.mark.parametrize(
    ("group", "program", "said"),
    [
        ("store", "monai.bundle.__main__", ["group False", "callback"]),
        ("store", "my.program", ["group False", "callback", "taken apart"]),
        ("alone", "monai.bundle.__main__", ["group False", "callback", "taken apart"]),
    ],
)
def test_only_a_distributed_run_of_monais_program_skips_the_end_of_the_interpreter(group, program, said, tmp_path):
    words = [str(tmp_path / group) if group == "store" else group, program]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr
