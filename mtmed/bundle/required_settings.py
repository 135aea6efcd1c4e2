"""Settings that a weights file must have for a bundle to use its network."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.errors import InputError

__all__ = ["require_settings"]


def require_settings(settings: Mapping[str, Any], names: Sequence[str], *, source: str) -> Mapping[str, Any]:
    """Refuse the weights file of another bundle, whose network wants other images.

    Args:
        settings: of the weights file.
        names: what the bundle feeds its networks by.
        source: path of the weights file.

    Returns:
        The settings.

    Raises:
        InputError: naming what the file does not say.
    """
    missing = [name for name in names if name not in settings]
    if missing:
        problem = f"does not say {', '.join(missing)}, so its network is of another bundle"
        raise InputError(source, problem, "pass model.pt of a training run of this bundle")
    return settings
