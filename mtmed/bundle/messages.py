"""One line for what the user can mend, silence for what nobody can."""

import logging
import sys
import warnings
from types import TracebackType

from mtmed.errors import InputError

__all__ = ["install", "mendable"]

# Messages of libraries that mtmed causes and a user cannot act on; each names one message and its reason.
_SILENCED = (
    # MONAI announces a renamed argument of NumPy's or torch's that it uses itself
    ("ignore", "TypedStorage is deprecated", UserWarning),
)


def mendable(error: BaseException | None) -> InputError | None:
    """The `InputError` that an exception was raised from, if there is one.

    MONAI and Ignite wrap what happens inside a config's expressions and inside an engine.
    """
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _print_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    found = mendable(error)
    if found is None:
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("mtmed").debug("Full traceback", exc_info=(kind, error, trace))
    print(f"error: {found}", file=sys.stderr)


class _NotTwice(logging.Filter):
    """Drops Ignite's report of an exception that ends as one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "terminating due to exception" not in record.getMessage() or mendable(sys.exc_info()[1]) is None


def install() -> None:
    """Let uncaught `InputError` end the process with its line alone and exit status 1."""
    sys.excepthook = _print_one_line
    for action, message, category in _SILENCED:
        warnings.filterwarnings(action, message=message, category=category)  # type: ignore[arg-type]
    for handler in logging.getLogger().handlers:
        handler.addFilter(_NotTwice())
