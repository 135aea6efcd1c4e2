"""Options that cannot be meant together are refused; what nothing reads beside the others is named."""

import logging
from collections.abc import Sequence

from mtmed.bundle.active import command_line
from mtmed.distributed import rank
from mtmed.errors import InputError

__all__ = ["notice_unused", "refuse_combination"]

logger = logging.getLogger(__name__)


def refuse_combination(option: str, problem: str, remedy: str, *, when: bool) -> None:
    """Refuse an option together with others, before anything is read.

    Args:
        option: the option.
        problem: what is wrong with it beside the others.
        remedy: what to do instead.
        when: whether the combination is given.

    Raises:
        InputError: if it is.
    """
    if when:
        raise InputError(option, problem, remedy)


def notice_unused(options: Sequence[str], because: str, *, when: bool) -> None:
    """Say so of options typed on the command line that nothing reads beside the others.

    They are no mistake: a study gives all its arms the same ones. Those of an overlay are not named, because such files
    hold the settings of several variants.

    Args:
        options: ids of the options; what lies inside them counts too.
        because: why nothing reads them.
        when: whether nothing does.
    """
    given = command_line() if when else None
    if given is None or rank() != 0:
        return
    for key in given.overrides:
        name = key.replace("#", "::")
        if key not in given.from_args_file and any(name == one or name.startswith(f"{one}::") for one in options):
            logger.info("Notice: %s does nothing here, because %s", name, because)
