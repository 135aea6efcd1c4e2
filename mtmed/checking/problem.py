"""What is wrong with a config, one record each."""

from dataclasses import dataclass

from mtmed.errors import InputError

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """A problem that a user can mend.

    Attributes:
        kind: ``file``, ``key``, ``option``, ``reference``, ``component``, ``expression``, ``value``, ``data``,
            ``network`` or ``memory``.
        culprit: id, file or case at fault.
        problem: what is wrong.
        remedy: what to do.
    """

    kind: str
    culprit: str
    problem: str
    remedy: str

    @classmethod
    def of(cls, kind: str, error: InputError) -> "Problem":
        """The record of an exception."""
        return cls(kind, error.culprit, error.problem, error.remedy)
