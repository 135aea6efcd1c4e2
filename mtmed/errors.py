"""The one exception for what a user can mend: bad data, bad options, a damaged or foreign checkpoint."""

import errno
import re
from collections.abc import Sequence

__all__ = ["DISK_FULL", "InputError"]

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a write for which there is no room: disk, quota or file-size limit."""

_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class InputError(ValueError):
    """A file, key or option that cannot be used.

    The message is one line that names the culprit, says what is wrong and what to do. The command lines print that
    line alone, without a traceback (see `mtmed.bundle.messages`).

    Args:
        culprit: file, case, key or option at fault.
        problem: what is wrong with it: what was found and what is allowed.
        remedy: what the user can do.
        items: further faults of the culprit, which the message lists in a line each.

    Example::

        >>> str(InputError("liver_3.nii.gz", "gzip data ends early", "copy the file again"))
        'liver_3.nii.gz: gzip data ends early; copy the file again'
    """

    def __init__(self, culprit: object, problem: str, remedy: str, items: Sequence["InputError"] = ()) -> None:
        # names in data may be anybody's: none breaks the line or reaches the terminal as a command
        self.culprit, self.problem, self.remedy = map(_printable, (culprit, problem, remedy))
        self.items = tuple(items)
        listed = ":" + "".join(f"\n  {item}" for item in self.items) + "\n" if self.items else ""
        super().__init__(f"{self.culprit}: {self.problem}{listed}; {self.remedy}")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str, tuple["InputError", ...]]]:
        # loader workers send exceptions through pickle
        return type(self), (self.culprit, self.problem, self.remedy, self.items)


def _printable(text: object) -> str:
    return _UNPRINTED.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))
