"""Settings in which a training must agree with the file that it starts from."""

from typing import Any

from mtmed.errors import InputError
from mtmed.networks import carried

__all__ = ["require_carried"]


def require_carried(name: str, value: Any, *, pretrained: str | None) -> None:
    """Refuse a setting that differs from that of the pre-training, for example a spacing at which scales would mix.

    Args:
        name: of the setting, for example ``"spacing"``.
        value: what this run uses.
        pretrained: weights file, or None when training from scratch.

    Raises:
        InputError: with both values.
    """
    before = carried(pretrained, name, value)
    if before != value:
        problem = f"is {value}, but {pretrained} was trained with {before}"
        raise InputError(name, problem, f"leave --{name} to the file, or pre-train with the other")
