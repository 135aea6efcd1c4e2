"""The log of a run, on a disk that may be full."""

import logging
import sys

from mtmed.files import write_error

__all__ = ["LogFile"]


class LogFile(logging.FileHandler):
    """A ``logging.FileHandler`` that ends the run when the log cannot be written; logging itself would go on without.

    Raises:
        InputError: naming the log.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Raise what was wrong with the file; leave other faults of a record to logging."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise write_error(self.baseFilename, error) from error
        super().handleError(record)
