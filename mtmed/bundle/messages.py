"""One line for what the user can mend, a traceback for what only a programmer can.

The program ``python -m monai.bundle`` gets this when a config imports `mtmed.bundle`; a user's own program keeps
Python's tracebacks.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

from mtmed.bundle.resource_faults import resource_fault
from mtmed.distributed import rank, world_size
from mtmed.errors import DISK_FULL, InputError
from mtmed.interruption import Interruption

__all__ = ["install", "is_monai_program", "mendable"]

_IN_WORKER = re.compile(r"mtmed\.errors\.InputError: (.*?): (.*); (.*)")
_MISSING_REFERENCE = re.compile(r"the referring item `@(\S+)` is not defined")
# gloo and NCCL, of a connection that the other side does not hold any more
_LOST_PROCESS = re.compile(
    r"gloo.*(Connection (closed|reset) by|Connection refused|Broken pipe|Read error|Write error)"
    r"|remote process exited|Socket Timeout|Failed to recv",
    re.DOTALL,
)
_CIRCULAR_REFERENCE = re.compile(r"detected circular references '(\S+)'")


def mendable(error: BaseException | None) -> InputError | None:
    """What the user can do about an exception; None if it is a fault of the program.

    MONAI, Ignite and torch wrap what happens inside a config's expressions, an engine and a loader's worker. An
    `InputError` among the causes is the answer; else one is made of a full disk or memory, a killed worker, a lost
    process, a reference to nothing, an expression that does not evaluate, or a component that does not accept its
    arguments.

    Args:
        error: the exception, with its causes and traceback.
    """
    chain = list(_causes(error))
    for item in chain:
        if isinstance(item, InputError):
            return item
        # a loader's worker sends the text of its traceback
        if found := _IN_WORKER.search(str(item)):
            return InputError(found[1], found[2], found[3])
    return resource_fault(chain) or _lost_process(chain) or _config_fault(chain)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # a thread's exception that is raised again elsewhere may be its own cause's context
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _lost_process(chain: list[BaseException]) -> InputError | None:
    count = world_size()
    if count > 1 and any(isinstance(error, RuntimeError) and _LOST_PROCESS.search(str(error)) for error in chain):
        lost = f"process {1 - rank()} of 2" if count == 2 else f"another process of {count}"
        problem = f"lost {lost} (counted from 0), which has ended or cannot be reached"
        remedy = "see its last lines, then run the same command again, which continues from the last checkpoint"
        return InputError(f"process {rank()}", problem, remedy)
    return None


def _config_fault(chain: list[BaseException]) -> InputError | None:
    identifier = "config"
    for error in chain:
        text, cause = str(error), error.__cause__
        identifier = _config_id(error) or identifier
        if found := _MISSING_REFERENCE.search(text):
            problem = f"refers to @{found[1]}, which is not in the config"
            return InputError(identifier, problem, "correct the reference")
        if found := _CIRCULAR_REFERENCE.search(text):
            return InputError(identifier, f"refers to itself through @{found[1]}", "correct the reference")
        if isinstance(error, ModuleNotFoundError) and "Cannot locate class or function path" in text:
            target = text.partition("'")[2].partition("'")[0]
            return InputError(identifier, f"there is no class or function {target}", "correct _target_")
        if text.startswith("Failed to instantiate component"):
            if isinstance(cause, ImportError):
                return InputError(identifier, _cause(cause), "install the package that is missing")
            if isinstance(cause, TypeError | ValueError):
                return InputError(identifier, _cause(cause), "correct its arguments")
        if text.startswith("Failed to evaluate ConfigExpression") and cause is not None and _in_expression(cause):
            return InputError(identifier, _cause(cause), "correct the expression or the options that it uses")
    return None


def _config_id(error: BaseException) -> str | None:
    """Id of the innermost config entry that was being resolved when an exception was raised."""
    identifier, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "_resolve_one_item":
            identifier = str(trace.tb_frame.f_locals.get("id"))
        trace = trace.tb_next
    return identifier


def _in_expression(error: BaseException) -> bool:
    """Whether an exception was raised by the text of an expression, not by what the text calls."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename == "<string>"


def _cause(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {line}"


def _print_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        text = str(error) if error.args else "interrupted; the same command continues from the last checkpoint"
        if text and rank() == 0:
            print(text, file=sys.stderr)
        return
    found = mendable(error)
    if found is None:
        _log_traceback(error)
        sys.__excepthook__(kind, error, trace)
        return
    log = _log_traceback(error)
    where = f" (traceback: {log})" if log is not None and found not in _causes(error) else ""
    print(f"error: {found}{where}", file=sys.stderr)


def _log_traceback(error: BaseException) -> str | None:
    """Write the traceback into the run's log and nowhere else; return the log's path, None if it is full."""
    record = logging.LogRecord("mtmed", logging.ERROR, __file__, 0, "Stopped", None, None)
    record.exc_info = (type(error), error, error.__traceback__)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            try:
                handler.handle(record)
            except InputError:
                return None
            return handler.baseFilename
    return None


def _print_unless_full(arguments: threading.ExceptHookArgs) -> None:
    """A thread that finds the disk full, as TensorBoard's, tells the one that gave it what to write."""
    if not (isinstance(arguments.exc_value, OSError) and arguments.exc_value.errno in DISK_FULL):
        threading.__excepthook__(arguments)


class _NotTwice(logging.Filter):
    """Drops Ignite's report of an exception that ends as one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "terminating due to exception" not in record.getMessage():
            return True
        error = sys.exc_info()[1]
        return not isinstance(error, KeyboardInterrupt | SystemExit) and mendable(error) is None


def is_monai_program() -> bool:
    """Whether this process is ``python -m monai.bundle``, not a program of the user's own."""
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(specification, "name", None) == "monai.bundle.__main__"


def install() -> None:
    """In MONAI's program, let uncaught exceptions that are `mendable` end it with their line alone and exit status 1.

    SIGTERM, SIGINT and SIGUSR1 also end it with a line, wherever it is (`mtmed.interruption`); while it trains,
    `mtmed.handlers.Checkpoint` hears them. Elsewhere it does nothing: a program that imports mtmed keeps its own ways.
    """
    if not is_monai_program():
        return
    sys.excepthook = _print_one_line
    threading.excepthook = _print_unless_full
    interruption = Interruption()
    interruption.at_once = interruption.leave
    interruption.listen()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_NotTwice())
