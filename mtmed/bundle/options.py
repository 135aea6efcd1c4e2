"""Options that nothing reads, or of the wrong kind, are refused; MONAI would take them silently."""

import difflib
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from mtmed.bundle.active import CommandLine, active_parser, command_line
from mtmed.bundle.component import component_parameters
from mtmed.duplicate_keys import duplicate_keys
from mtmed.errors import InputError

__all__ = ["check_options", "duplicate_problems", "option_problems"]

_REFERENCE = re.compile(r"@([A-Za-z_]\w*(?:(?:::|#)\w+)*)")
_OF_MONAI = frozenset({"imports", "initialize", "run", "finalize"})
_MISSING = object()


def check_options() -> None:
    """Refuse options that nothing reads and values that cannot be meant.

    An id is known if the main config has it, an entry refers to it, MONAI reads it, or it is an argument of the
    component or a key of the plain dictionary it is given to. A number, text, switch or list of the main config may
    only become one of the same kind, or an expression; a list of words on top of it names all the choices there are.
    This holds for the command line, ``--args_file`` and every further config file.

    Raises:
        InputError: for an unknown option (with the nearest known one), a value of another kind, or a key that stands
            twice in a config file.
    """
    given = command_line()
    if given is None or not given.config_files:
        return
    for problem in (*duplicate_problems(given), *option_problems(given, active_parser())):
        raise problem


def duplicate_problems(given: CommandLine) -> Iterator[InputError]:
    """Keys that stand twice in the files of a command line."""
    for path in (*given.config_files, *filter(None, [given.args_file])):
        for doubled in duplicate_keys(path):
            problem = f"the key stands twice, again in line {doubled.line}"
            yield InputError(f"{path}: {doubled.key}", problem, "remove one of the two")


def option_problems(given: CommandLine, parser: ConfigParser) -> Iterator[InputError]:
    """Options that nothing reads and values that cannot be meant, one after another, see `check_options`.

    Args:
        given: the config files and overrides.
        parser: of the merged config.
    """
    yield from _Options(given, parser).problems()


class _Options:
    """The options that were given, beside what the configs know."""

    def __init__(self, given: CommandLine, parser: ConfigParser) -> None:
        self.parser = parser
        self.merged: dict[str, Any] = self.parser.get()
        self.main_file = given.config_files[0]
        self.main: dict[str, Any] = ConfigParser.load_config_file(self.main_file)
        self.asked = [
            (key, value, given.args_file if key in given.from_args_file else "the command line")
            for key, value in given.overrides.items()
        ]
        for path in given.config_files[1:]:
            self.asked += [(key, value, path) for key, value in ConfigParser.load_config_file(path).items()]
        self.referred = set(_references(self.merged))
        self.known = set(_ids(self.main)) | self.referred | _OF_MONAI | _of_tracking(given.tracking)

    def problems(self) -> Iterator[InputError]:
        for key, value, source in self.asked:
            identifier = _normal(key)
            if identifier.split("::")[0] == "_meta_":
                continue
            for inner in (identifier, *self._inner(key, value)):
                if inner not in self.known and not self._is_free(inner):
                    yield InputError(inner, f"unknown option (from {source})", self._hint(inner))
            default = _entry(self.main, identifier)
            kind = _expected(default, value)
            if kind is None and "::" not in identifier:
                kind = _choices(default, value)
            if kind is not None:
                remedy = "set its keys one by one" if isinstance(default, Mapping) else f"its default is {default!r}"
                yield InputError(identifier, f"is {value!r}, not {kind} (from {source})", remedy)

    def _inner(self, key: str, value: Any) -> Iterator[str]:
        """Ids of what is inside a value, at its place in the merged config."""
        identifier = _normal(key)
        whole = _entry(self.merged, identifier)
        if key.startswith("+") and isinstance(value, list) and isinstance(whole, list):
            # items that are added stand behind those that were there
            for item in value:
                if item in whole:
                    yield from _ids(item, f"{identifier}::{whole.index(item)}")
        else:
            yield from _ids(value, identifier)

    def _is_free(self, identifier: str) -> bool:
        """Whether an id is an argument of a component, or lies in a plain dictionary or list that something takes."""
        parent, _, name = identifier.rpartition("::")
        entry = _entry(self.merged, parent) if parent else _MISSING
        if isinstance(entry, list):
            return True
        if not isinstance(entry, Mapping):
            return False
        if "_target_" in entry:
            arguments = self._arguments(entry)
            return arguments is None or name in arguments or name.startswith("_")
        steps = parent.split("::")
        ancestors = ["::".join(steps[: depth + 1]) for depth in range(len(steps))]
        taken = any(ancestor in self.referred for ancestor in ancestors) or any(
            "_target_" in above for above in (_entry(self.merged, a) for a in ancestors) if isinstance(above, Mapping)
        )
        return taken and not self._looks_misspelt(identifier)

    def _looks_misspelt(self, identifier: str) -> bool:
        """Whether a key of a free dictionary resembles one that is there and is used nowhere else."""
        parent, _, name = identifier.rpartition("::")
        siblings = [key for key in _entry(self.main, parent) or () if key != name] if self._in_main(parent) else []
        if not difflib.get_close_matches(name, siblings, n=1, cutoff=0.75):
            return False
        return all(other == identifier or other.rpartition("::")[2] != name for other in _ids(self.merged))

    def _in_main(self, identifier: str) -> bool:
        return isinstance(_entry(self.main, identifier), Mapping)

    def _arguments(self, component: Mapping[str, Any]) -> set[str] | None:
        """Names of the arguments that a component takes; None if any, or if that cannot be found out."""
        parameters = component_parameters(component, self.parser)
        if parameters is None or any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            return None
        return set(parameters)

    def _hint(self, identifier: str) -> str:
        parent, _, name = identifier.rpartition("::")
        known = {key for key in self.known if not key[-1].isdigit() or key in self.main}
        entry = _entry(self.merged, parent) if parent else self.main
        if isinstance(entry, Mapping) and "_target_" in entry:
            known |= {f"{parent}::{argument}" for argument in self._arguments(entry) or ()}
        known.discard(identifier)
        siblings = {key.rpartition("::")[2]: key for key in known if key.rpartition("::")[0] == parent}
        leaves = {key.rpartition("::")[2]: key for key in sorted(known, reverse=True)}
        for names, cutoff in ((siblings, 0.6), (leaves, 0.8)):
            if near := difflib.get_close_matches(name, names, n=1, cutoff=cutoff):
                key = names[near[0]]
                # an argument that only passes on a key on top: that key
                value = _entry(self.main, key)
                passed_on = "::" in key and isinstance(value, str) and value.startswith("@") and value[1:] in self.main
                return f"did you mean {(value[1:] if passed_on else key)!r}?"
        return f"see the keys on top of {self.main_file}"


def _of_tracking(tracking: Any) -> set[str]:
    """Ids that MONAI's experiment tracking brings along, by the name of its settings, their file, or themselves."""
    if not tracking:
        return set()
    if isinstance(tracking, str) and tracking in DEFAULT_EXP_MGMT_SETTINGS:
        tracking = DEFAULT_EXP_MGMT_SETTINGS[tracking]
    return set(ConfigParser.load_config_files(tracking)["configs"])


def _normal(key: str) -> str:
    return key.replace("#", "::").lstrip("+")


def _ids(config: Any, prefix: str = "") -> Iterator[str]:
    """Every id of a config: ``train``, ``train::trainer``, ``train::trainer::max_epochs``, ..."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        identifier = f"{prefix}::{key}" if prefix else str(key)
        yield identifier
        yield from _ids(value, identifier)


def _entry(config: Any, identifier: str) -> Any:
    """What stands at an id, or ``_MISSING``."""
    for key in identifier.split("::"):
        if isinstance(config, Mapping) and key in config:
            config = config[key]
        elif isinstance(config, list) and key.isdigit() and int(key) < len(config):
            config = config[int(key)]
        else:
            return _MISSING
    return config


def _references(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        if config.startswith(("@", "$")):
            yield from (name.replace("#", "::") for name in _REFERENCE.findall(config))
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _references(value)
    elif isinstance(config, list):
        for value in config:
            yield from _references(value)


def _expected(default: Any, value: Any) -> str | None:
    """What a value should be after its default, in words; None if it may be what it is."""
    # MONAI's command line passes no null; "none" stands for it
    if value is None or value == "none" or (isinstance(value, str) and not _is_word(value)):
        return None
    if isinstance(default, bool):
        # the command line makes text of "true", which counts as true, and of "false", which does not count as false
        return None if isinstance(value, bool) or value == "true" else "True or False"
    if isinstance(default, Real):
        return None if _is_number(value) else "a number"
    if _is_word(default):
        return None if isinstance(value, str) else "text"
    if isinstance(default, Mapping):
        return None if isinstance(value, Mapping) else "a dictionary"
    if isinstance(default, list) and default:
        if not isinstance(value, list | tuple):
            return "a list"
        if all(_is_number(item) for item in default):
            return None if all(_expected(0, item) is None for item in value) else "a list of numbers"
    return None


def _choices(default: Any, value: Any) -> str | None:
    """What the words of a list should be, in words; None if they may be what they are."""
    words = isinstance(default, list) and bool(default) and all(map(_is_word, default))
    if not words or not isinstance(value, list | tuple) or all(item in default for item in value):
        return None
    return f"a list of {', '.join(default)}"


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and not value.startswith(("$", "@", "%"))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
