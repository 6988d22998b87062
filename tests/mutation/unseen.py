"""Mutants that no test is meant to see, told apart by the two versions of one function.

mutmut itself leaves out docstrings, annotations, whatever stands outside of functions (`__all__`,
constants, fields of classes) and functions with decorators other than `staticmethod` and
`classmethod`.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from typing import Final

__all__ = ["why_unseen"]

SQL: Final = (
    *("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "PRAGMA ", "WHERE "),
    *("BEGIN", "COMMIT", "ROLLBACK"),
)
"""How a statement, or the end of one, begins; SQLite reads its words in either case."""


def why_unseen(original: str, mutated: str) -> str | None:
    """Return why no test is meant to see the difference between two functions, if that is so."""
    above, before, after = _difference(_tree(original), _tree(mutated))
    calls = [one for one in (*above, before) if isinstance(one, ast.Call)]
    if any(_called(one).startswith("_logger.") for one in calls):
        return "what a log record says"
    if _is_message(above, before, after):
        return "words of an error"
    if any(_called(one) == "cast" for one in calls[-1:]):
        return "type for the type checker"
    if _is_other_case(before, after):
        return "case of an SQL statement"
    if _is_encoding(above, before, after):
        return "spelling of an encoding"
    return None


def _tree(source: str) -> ast.AST:
    """Return the function of a text without its name, which differs between mutants."""
    (function,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.name = ""
    return function


def _difference(
    before: ast.AST, after: ast.AST, above: tuple[ast.AST, ...] = ()
) -> tuple[tuple[ast.AST, ...], ast.AST, ast.AST]:
    """Return the smallest part that differs, and the parts around it."""
    if type(before) is type(after) and _scalars(before) == _scalars(after):
        old, new = list(ast.iter_child_nodes(before)), list(ast.iter_child_nodes(after))
        if len(old) == len(new):
            pairs = zip(old, new, strict=True)
            differ = [(one, other) for one, other in pairs if ast.dump(one) != ast.dump(other)]
            if len(differ) == 1:
                return _difference(*differ[0], (*above, before))
    return above, before, after


def _scalars(node: ast.AST) -> list[object]:
    """Return what a node has beside other nodes."""
    return [value for _, value in ast.iter_fields(node) if not isinstance(value, ast.AST | list)]


def _called(call: ast.Call) -> str:
    """Return the name of what is called."""
    return ast.unparse(call.func)


def _is_message(above: tuple[ast.AST, ...], before: ast.AST, after: ast.AST) -> bool:
    """Whether only the words of an error differ: a text that is an argument without a name."""
    around = (*above, before)
    errors = [at for at, one in enumerate(around) if isinstance(one, ast.Call) and _is_error(one)]
    if not errors:
        return False
    inner = around[errors[-1] + 1 :]
    if not inner:
        assert isinstance(before, ast.Call)
        kept = {ast.dump(one) for one in ast.walk(after)}
        gone = [one for one in before.args if ast.dump(one) not in kept]
        return len(gone) == 1 and _is_text(gone[0])
    return not isinstance(inner[0], ast.keyword) and _is_text(inner[0])


def _is_error(call: ast.Call) -> bool:
    return _called(call).rpartition(".")[2].endswith(("Error", "Warning"))


def _is_text(node: ast.AST) -> bool:
    """Whether an expression is a text written there, or put together of such."""
    return any(_texts(node))


def _texts(node: ast.AST) -> Iterator[bool]:
    if isinstance(node, ast.BinOp):
        yield _is_text(node.left) or _is_text(node.right)
    elif isinstance(node, ast.IfExp):
        yield _is_text(node.body) or _is_text(node.orelse)
    yield isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_other_case(before: ast.AST, after: ast.AST) -> bool:
    """Whether an SQL statement is only written in small or capital letters."""
    old, new = _literal(before), _literal(after)
    if old is None or new is None or not old.startswith(SQL):
        return False
    return old.casefold() == new.casefold()


def _literal(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_encoding(above: tuple[ast.AST, ...], before: ast.AST, after: ast.AST) -> bool:
    """Whether an encoding is spelled otherwise, or left to be the default."""
    old, new = _literal(before), _literal(after)
    if old in {"utf-8", "ascii", "latin-1"}:
        return new is None or new.casefold() == old
    if isinstance(before, ast.Call) and isinstance(after, ast.Call):
        gone = {one.arg for one in before.keywords} - {one.arg for one in after.keywords}
        return gone == {"encoding"}
    return False
