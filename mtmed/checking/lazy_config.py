"""Values of a config, evaluated one by one as they are asked for.

MONAI evaluates whatever an expression refers to, even in a branch that is not taken, and so builds the volume store to
learn how many channels a network has. Here only what decides a value is evaluated, and what would train, write or read
all volumes is replaced (see `mtmed.checking.substitutes`).
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent, ConfigExpression

from mtmed.bundle.component import located
from mtmed.bundle.messages import mendable
from mtmed.checking.expressions import REFERENCES, expression_tree
from mtmed.checking.unknown import NotKnownError, Unknown, holds_unknown
from mtmed.errors import InputError

__all__ = ["LazyConfig"]

_CALL = "__call_or_substitute"


class LazyConfig(ConfigParser):
    """A config whose entries are evaluated when they are asked for, and no others.

    It is a parser of MONAI's, so that what mtmed's functions ask the running config for is answered by it.

    Args:
        config: the merged config, macros and relative references resolved.
        names: what its expressions see.
        substitutes: functions and classes that are not called, and what is called in their place.

    Attributes:
        faults: what went wrong, by the id at which it did.
    """

    def __init__(
        self, config: Mapping[str, Any], *, names: Mapping[str, Any], substitutes: Mapping[Any, Callable[..., Any]]
    ) -> None:
        super().__init__(dict(config))
        self.names = {**names, REFERENCES: _References(self), _CALL: self._call}
        self.substitutes = substitutes
        self.faults: dict[str, InputError] = {}
        self._values: dict[str, Any] = {}
        self._open: set[str] = set()

    def has(self, identifier: str) -> bool:
        """Whether there is an entry."""
        return identifier in self

    def value(self, identifier: str) -> Any:
        """Value of an entry; `Unknown` where it depends on what is not evaluated or went wrong before."""
        identifier = identifier.replace("#", "::")
        if identifier in self._values:
            return self._values[identifier]
        if identifier in self._open or not self.has(identifier):
            return Unknown(identifier)
        self._open.add(identifier)
        try:
            value = self._evaluate(identifier, self[identifier])
        except NotKnownError:
            value = Unknown(identifier)
        except Exception as error:
            self.faults.setdefault(identifier, _fault(identifier, error))
            value = Unknown(identifier)
        finally:
            self._open.discard(identifier)
        self._values[identifier] = value
        return value

    def get_parsed_content(self, id: str = "", **kwargs: Any) -> Any:
        """As of MONAI's parser, for what the config's functions ask of it.

        Raises:
            NotKnownError: if the value is not known.
        """
        value = self.value(str(id))
        if holds_unknown(value):
            raise NotKnownError(id)
        return value

    def _evaluate(self, identifier: str, entry: Any) -> Any:
        if ConfigComponent.is_instantiable(entry):
            return self._component(identifier, entry)
        if ConfigExpression.is_expression(entry):
            return self._expression(identifier, entry)
        if isinstance(entry, str) and entry.startswith("@"):
            return self.value(entry[1:])
        if isinstance(entry, Mapping):
            parts = {key: self.value(f"{identifier}::{key}") for key in entry}
            return {key: part for key, part in parts.items() if not _is_left_out(entry[key], part)}
        if isinstance(entry, list):
            values = [self.value(f"{identifier}::{index}") for index in range(len(entry))]
            return [value for item, value in zip(entry, values, strict=True) if not _is_left_out(item, value)]
        return entry

    def _component(self, identifier: str, entry: Mapping[str, Any]) -> Any:
        disabled = self.value(f"{identifier}::_disabled_") if "_disabled_" in entry else False
        if disabled is True or str(disabled).strip().lower() == "true":
            return None
        arguments = {key: self.value(f"{identifier}::{key}") for key in entry if key != "_disabled_"}
        component = ConfigComponent(arguments, id=identifier, locator=self.locator)
        target = arguments["_target_"]
        for original, substitute in self.substitutes.items():
            if self._is(target, original):
                return substitute(**component.resolve_args())
        if holds_unknown(arguments):
            return Unknown(identifier)
        return component.instantiate()

    def _is(self, target: Any, original: Any) -> bool:
        """Whether a dotted name ends in the name of a class or function and leads to it."""
        if not isinstance(target, str) or target.rpartition(".")[2] != original.__name__:
            return False
        return located(target, self) is original

    def _expression(self, identifier: str, entry: str) -> Any:
        try:
            tree = expression_tree(entry)
            statement = tree.body[0]
        except (SyntaxError, ValueError, IndexError):
            raise NotKnownError(identifier) from None  # told by the check of expressions
        if not isinstance(statement, ast.Expr):
            return None
        changed = ast.fix_missing_locations(ast.Expression(_Calls().visit(statement.value)))
        return eval(compile(changed, f"<{identifier}>", "eval"), dict(self.names))

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        substitute = self.substitutes.get(function) if getattr(function, "__hash__", None) else None
        if substitute is not None:
            return substitute(*args, **kwargs)
        if isinstance(function, Unknown) or holds_unknown([*args, *kwargs.values()]):
            return Unknown("an argument")
        return function(*args, **kwargs)


class _References:
    """The references of an expression, looked up when they are read."""

    def __init__(self, config: LazyConfig) -> None:
        self.config = config

    def __getitem__(self, identifier: str) -> Any:
        return self.config.value(identifier)


class _Calls(ast.NodeTransformer):
    """Makes every call of an expression one of `LazyConfig._call`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Name(_CALL, ast.Load()), [node.func, *node.args], node.keywords)


def _is_left_out(entry: Any, value: Any) -> bool:
    """Whether an entry is a component that is switched off, which MONAI drops from lists and dictionaries."""
    return value is None and ConfigComponent.is_instantiable(entry)


def _fault(identifier: str, error: Exception) -> InputError:
    found = mendable(error)
    if found is not None:
        return found
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    problem = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return InputError(identifier, problem, "correct the entry or the options that it uses")
