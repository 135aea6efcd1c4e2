"""What a file of a bundle would do, and why that is suspicious if it is."""

from dataclasses import dataclass

__all__ = ["Finding", "printable"]


@dataclass(frozen=True)
class Finding:
    """One thing that is named in a file.

    Attributes:
        file: where it stands.
        where: id of the config's entry, or part of the file.
        kind: ``target``, ``call``, ``name``, ``import``, ``expression``, ``macro``, ``url``, ``path``, ``key``,
            ``logging``, ``weights`` or ``file``.
        what: the thing itself.
        reason: why it is suspicious; empty if it is known.
    """

    file: str
    where: str
    kind: str
    what: str
    reason: str = ""

    @property
    def grade(self) -> str:
        """``suspicious`` or ``known``."""
        return "suspicious" if self.reason else "known"


def printable(text: str, *, width: int = 60) -> str:
    """A stranger's text as it may be printed on a terminal: no control characters, bounded."""
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text[: 4 * width])
    return shown if len(shown) <= width and len(text) <= 4 * width else shown[: width - 3] + "..."
