"""How one of several processes ends after its work is done."""

import atexit
import os
import sys

from torch import distributed as dist

from mtmed.bundle.messages import is_monai_program

__all__ = ["leave"]


def leave() -> None:
    """Last item of a bundle's ``finalize`` in distributed training: destroy the process group and end the process.

    Gloo's threads outlive the group, because `DistributedDataParallel` holds it too. While the interpreter is taken
    apart around them, a process sometimes aborts ("terminate called without an active exception"), and torchrun then
    counts a finished training as failed. In MONAI's program the process therefore ends, with status 0, as soon as all
    that is registered with `atexit` has run. A user's own program is left alone.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        if is_monai_program():
            atexit.register(_end)


def _end() -> None:
    # registered last, so called first: the others are still to come
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
