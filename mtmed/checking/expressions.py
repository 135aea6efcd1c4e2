"""Expressions of a config that do not parse, or use names that nothing defines; none of them is evaluated."""

import ast
import builtins
import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from monai.bundle.config_item import ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver

from mtmed.checking.entries import entries
from mtmed.checking.problem import Problem

__all__ = ["REFERENCES", "expression_problems", "expression_tree", "import_all"]

REFERENCES = "__local_refs"
_REFERENCE = re.compile(r"__local_refs\['([^']*)'\]")


def expression_tree(text: str) -> ast.Module:
    """Tree of an expression (with its ``$``), with references as items of ``__local_refs``, as MONAI writes them.

    Raises:
        SyntaxError: if it is no Python.
    """
    references = ReferenceResolver.match_refs_pattern(text)
    replaced: str = ReferenceResolver.update_refs_pattern(text, dict.fromkeys(references))
    return ast.parse(replaced[1:])


def import_all(config: Mapping[str, Any], names: dict[str, Any]) -> Iterator[Problem]:
    """Carry out the import statements of a config, which MONAI does before anything else.

    Args:
        config: the merged config.
        names: gets what the imports define.
    """
    for identifier, entry in entries(config):
        if not ConfigExpression.is_expression(entry) or "import" not in entry:
            continue
        try:
            node = expression_tree(entry).body[0]
        except (SyntaxError, IndexError):
            continue  # told by `expression_problems`
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        try:
            exec(compile(ast.Module([node], []), f"<{identifier}>", "exec"), names)
        except ImportError as error:
            yield Problem("expression", identifier, f"cannot be imported ({error})", "correct or install it")


def expression_problems(config: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[Problem]:
    """List every expression that does not parse or names something that is not there.

    Args:
        config: the merged config.
        names: what its expressions see: MONAI's names and the config's imports.
    """
    for identifier, entry in entries(config):
        if not ConfigExpression.is_expression(entry):
            continue
        try:
            tree = expression_tree(entry)
        except (SyntaxError, ValueError) as error:
            text = _REFERENCE.sub(r"@\1", str(error)).partition(" (<unknown>")[0]
            yield Problem("expression", identifier, f"does not parse: {text}", "correct the expression")
            continue
        yield from _name_problems(identifier, tree, names)


def _name_problems(identifier: str, tree: ast.Module, names: Mapping[str, Any]) -> Iterator[Problem]:
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | {REFERENCES}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    told: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in bound and not (node.id in names or hasattr(builtins, node.id)):
            if node.id not in told:
                told.add(node.id)
                near = difflib.get_close_matches(node.id, [*names, *vars(builtins)], n=1)
                remedy = f"did you mean {near[0]!r}?" if near else "import it under imports"
                yield Problem("expression", identifier, f"names {node.id}, which is not defined", remedy)
        elif isinstance(node, ast.Attribute):
            problem = _attribute_problem(identifier, node, names, bound)
            if problem is not None and problem.problem not in told:
                told.add(problem.problem)
                yield problem
        elif isinstance(node, ast.Call):
            yield from _keyword_problems(identifier, node, names, bound)


def _known(node: ast.expr, names: Mapping[str, Any], bound: set[str]) -> Any:
    """The module, class or function that a dotted name stands for; None if it is none, or is not known."""
    if isinstance(node, ast.Name):
        return None if node.id in bound else names.get(node.id)
    if isinstance(node, ast.Attribute):
        above = _known(node.value, names, bound)
        return getattr(above, node.attr, None) if isinstance(above, ModuleType | type) else None
    return None


def _attribute_problem(
    identifier: str, node: ast.Attribute, names: Mapping[str, Any], bound: set[str]
) -> Problem | None:
    above = _known(node.value, names, bound)
    if not isinstance(above, ModuleType) or hasattr(above, node.attr):
        return None
    near = difflib.get_close_matches(node.attr, dir(above), n=1)
    remedy = f"did you mean '{above.__name__}.{near[0]}'?" if near else "correct it, or import it under imports"
    return Problem("expression", identifier, f"there is no {above.__name__}.{node.attr}", remedy)


def _keyword_problems(identifier: str, node: ast.Call, names: Mapping[str, Any], bound: set[str]) -> Iterator[Problem]:
    function = _known(node.func, names, bound)
    if function is None or not node.keywords:
        return
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for keyword in node.keywords:
        if keyword.arg is not None and keyword.arg not in parameters:
            near = difflib.get_close_matches(keyword.arg, parameters, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(parameters) or 'none'}"
            problem = f"{ast.unparse(node.func)} takes no argument {keyword.arg!r}"
            yield Problem("expression", identifier, problem, remedy)
