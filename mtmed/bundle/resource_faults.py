"""A machine that has no more room: what is full, which case it was, and what helps."""

import errno
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer

from mtmed.engines.batch_cases import case_names
from mtmed.errors import DISK_FULL, InputError

__all__ = ["resource_fault"]

_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: ([^.]+)|exited unexpectedly)"
)
_CPU_MEMORY = "can't allocate memory"  # of torch's allocator, which raises a RuntimeError
_SHOWN = 4


def resource_fault(chain: Sequence[BaseException]) -> InputError | None:
    """Turn a full disk, a full memory or a killed loader worker into a line; None if it is nothing of these.

    Args:
        chain: an exception and its causes, with their tracebacks. The engine that ran when memory was full stands in
            them, and with it the batch.
    """
    for error in chain:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            remedy = "free space or choose another folder, then run the same command again"
            return InputError(error.filename or "disk", "no space left on the disk", remedy)
        if found := _WORKER.search(str(error)):
            reason = f" ({found[1]})" if found[1] else ""
            problem = f"was killed{reason}, probably because memory is full"
            return InputError(
                "a loader worker", problem, "run the same command again, which continues, with fewer workers"
            )
        if _memory_is_full(error):
            return _full_memory(chain, error)
    return None


def _memory_is_full(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _CPU_MEMORY in str(error)


def _full_memory(chain: Sequence[BaseException], error: BaseException) -> InputError:
    found = "can't allocate memory" if _CPU_MEMORY in str(error) else str(error).partition(". ")[0]
    problem = f"memory is full ({found or type(error).__name__})"
    engine = _running_engine(chain)
    if engine is None:
        return InputError("device", f"its {problem}", "use a smaller batch_size or patch_size")
    state: Any = engine.state
    names = case_names(state.dataloader, state.batch) if isinstance(state.batch, Mapping) else []
    text = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if isinstance(engine, Trainer):
        cases = f" with a batch of {text}" if names else ""
        return InputError(f"iteration {state.iteration}", problem + cases, "use a smaller batch_size or patch_size")
    remedy = "show the network fewer windows at once, use --device cpu, or leave the case out"
    return InputError(text or "the case", problem, remedy)


def _running_engine(chain: Sequence[BaseException]) -> Engine | None:
    """The innermost engine in the tracebacks: of a validation within a training that of the validation."""
    engine = None
    for error in chain:
        trace = error.__traceback__
        while trace is not None:
            found = trace.tb_frame.f_locals.get("self")
            engine = found if isinstance(found, Engine) else engine
            trace = trace.tb_next
        if engine is not None:
            return engine
    return None
