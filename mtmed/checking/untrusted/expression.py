"""What an expression would import, call and read, from its syntax tree; it is never compiled or evaluated."""

import ast
import re
from collections.abc import Iterator, Mapping, Set

from monai.bundle.reference_resolver import ReferenceResolver

from mtmed.checking.untrusted.names import BUILTINS, MODULE_NAMES, attribute_fault, name_fault
from mtmed.checking.untrusted.paths import path_fault

__all__ = ["Found", "imported_names", "read_expression", "syntax_tree"]

Found = tuple[str, str, str]
"""Kind, thing, reason (empty if it is known), as in `mtmed.checking.untrusted.finding.Finding`."""

_REFERENCES = "__local_refs"
_PICKLING = {"weights_only": True, "allow_pickle": False}
_LONGEST = 100_000  # characters; deep nesting is Python's parser's to refuse


def syntax_tree(text: str) -> ast.Module | None:
    """Tree of an expression without its ``$``, after MONAI's own replacement of references; None if there is none.

    The replacement is textual and reaches into quoted text, so only MONAI's own can show what MONAI would evaluate.
    """
    if len(text) > _LONGEST:
        return None
    references = ReferenceResolver.match_refs_pattern(f"${text}")
    try:
        replaced: str = ReferenceResolver.update_refs_pattern(f"${text}", dict.fromkeys(references))
        return ast.parse(replaced[1:].strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imported_names(tree: ast.Module) -> dict[str, str]:
    """The names that import statements bind, and what they stand for: ``{"np": "numpy"}``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                names[item.asname or item.name.partition(".")[0]] = (
                    item.name if item.asname else item.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            names |= {item.asname or item.name: f"{node.module or '.'}.{item.name}" for item in node.names}
    return names


def read_expression(text: str, imported: Mapping[str, Set[str]]) -> Iterator[Found]:
    """List what is in an expression.

    Args:
        text: without its ``$``.
        imported: for each name that the configs bind by an import what it may stand for.
    """
    tree = syntax_tree(text)
    if tree is None:
        yield "expression", text, "does not parse as Python"
        return
    yield from _Reader(imported, tree).findings()


class _Reader:
    def __init__(self, imported: Mapping[str, Set[str]], tree: ast.Module) -> None:
        self.imported = imported
        self.tree = tree
        self.bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        self.bound |= {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        self.appended = {id(part) for node in ast.walk(tree) for part in _appended(node)}

    def findings(self) -> Iterator[Found]:
        inner: set[int] = set()  # nodes that are parts of a dotted name already listed
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from self._imports(node)
            elif isinstance(node, ast.Call):
                yield from self._call(node)
            if isinstance(node, ast.Subscript | ast.Attribute | ast.Name) and id(node) not in inner:
                yield from self._name(node, inner)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from self._text(node, node.value)
            elif isinstance(node, ast.stmt) and not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom):
                yield "expression", ast.unparse(node), "is a statement"

    def _imports(self, node: ast.Import | ast.ImportFrom) -> Iterator[Found]:
        origin = f"{node.module or '.'}." if isinstance(node, ast.ImportFrom) else ""
        for item in node.names:
            name = f"{origin}{item.name}"
            # of these modules each use is told by itself
            yield "import", name, "" if name in MODULE_NAMES else name_fault(name)

    def _call(self, node: ast.Call) -> Iterator[Found]:
        for keyword in node.keywords:
            safe = _PICKLING.get(keyword.arg or "")
            if safe is not None and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is safe):
                yield "call", ast.unparse(node), f"{keyword.arg} is not {safe}: it may load a pickle"
            if keyword.arg == "pickle_module":
                yield "call", ast.unparse(node), "pickle_module loads a pickle"
        if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) != 1:
            yield "call", ast.unparse(node), "makes a class"

    def _name(self, node: ast.expr, inner: set[int]) -> Iterator[Found]:
        item = isinstance(node, ast.Subscript)
        chain = node.value if isinstance(node, ast.Subscript) else node
        attributes: list[str] = []
        while isinstance(chain, ast.Attribute):
            attributes.insert(0, chain.attr)
            inner.add(id(chain))
            chain = chain.value
        if isinstance(chain, ast.Name):
            inner.add(id(chain))
            yield from self._dotted(chain.id, attributes, item)
            return
        for attribute in attributes:
            if fault := attribute_fault(attribute):
                yield "name", f"(...).{attribute}", fault

    def _dotted(self, root: str, attributes: list[str], item: bool) -> Iterator[Found]:
        if root in self.bound or root == _REFERENCES:
            for attribute in attributes:
                if fault := attribute_fault(attribute):
                    yield "name", f"{root}.{attribute}".replace(_REFERENCES, "@..."), fault
            return
        meanings = set(self.imported.get(root, ())) | ({root} if root in MODULE_NAMES else set())
        for meaning in sorted(meanings):
            name = ".".join([meaning, *attributes])
            if not attributes and "." not in meaning:
                yield "name", name, "a module is handed on, so what is called of it cannot be told"
            else:
                # os.environ['A'] is told from os.environ; an item of anything else changes nothing
                yield "name", name, name_fault(f"{name}[]") and name_fault(name) if item else name_fault(name)
        if meanings:
            return
        if root in BUILTINS:
            for attribute in attributes:
                if fault := attribute_fault(attribute):
                    yield "name", f"{root}.{attribute}", fault
            return
        yield "name", ".".join([root, *attributes]), "is no name that is known here"

    def _text(self, node: ast.Constant, text: str) -> Iterator[Found]:
        if re.search(r"__\w+__", text):
            yield "name", text, "names the inside of Python in a text"
        # '/model.pt' behind a plus sign is the end of a path
        kind, reason = path_fault(text, appended=id(node) in self.appended)
        if reason:
            yield kind, text, reason


def _appended(node: ast.AST) -> Iterator[ast.expr]:
    """What is put behind other text: the right side of a plus, the later parts of a formatted text."""
    waiting = (
        [node.right] if isinstance(node, ast.BinOp) else node.values[1:] if isinstance(node, ast.JoinedStr) else []
    )
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, ast.IfExp):
            waiting += [part.body, part.orelse]
        elif isinstance(part, ast.BoolOp):
            waiting += part.values
        elif isinstance(part, ast.BinOp):
            waiting.append(part.left)
