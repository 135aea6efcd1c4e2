"""How the processes that torchrun started find each other."""

import os
import signal
from datetime import timedelta

from torch import distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.constants import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from mtmed.errors import InputError
from mtmed.interruption import end_at_once

__all__ = ["join"]


def join(backend: str, *, timeout: timedelta = default_pg_timeout) -> None:
    """Make the process group of the processes that torchrun started.

    With ``--max-restarts`` torchrun keeps one table of addresses for all attempts (as of torch 2.13), so that a process
    which is started again may be told the address of one that is gone ("Connection refused"). On a single machine each
    attempt therefore has names of its own. On several, each counts its attempts alone, and torch's own way is kept.

    While a process waits for the others, signals end it at once: there is nothing to save yet, and Python would not
    hear them before torch's waiting is over.

    Args:
        backend: ``"gloo"`` or ``"nccl"``.
        timeout: how long a process waits for the others.

    Raises:
        InputError: if torchrun, or what stands for it, has not said which process this is.
    """
    lacking = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if lacking:
        remedy = "start it by torchrun --nproc_per_node=2 -m monai.bundle run ..., or leave multi_gpu.json out"
        raise InputError(lacking[0], "is not set, so this process does not know of the others", remedy)
    heard = end_at_once()
    try:
        store, number, count = next(rendezvous("env://", timeout=timeout))
        if os.environ.get("GROUP_WORLD_SIZE") == "1":
            store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=timeout)
    finally:
        for one, before in heard.items():
            signal.signal(one, before)
