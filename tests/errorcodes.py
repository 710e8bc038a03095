"""Which error codes the service can answer with, read out of its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mien.serve
from mien.serve import child, problem

PACKAGE = Path(mien.serve.__file__).parent
PASSED_ON = {"error.code", "problem.code"}
"""A code that another `Problem` already has."""


def codes() -> set[str]:
    """Codes of errors that are answered: of every `Problem` that is made, and of the errors of mien."""
    found = {code for _, _, code in problem._STATUS}
    for path in sorted(PACKAGE.glob("*.py")):
        found |= set(_of_module(path))
    # What Starlette itself answers; `problem.install` gives it a code by its phrase.
    return found | {"not_found", "method_not_allowed"}


def job_codes() -> set[str]:
    """Codes of jobs that failed."""
    from mien.serve import attempt, runner

    return {c for _, c in child._CODES} | set(attempt._LIMITS) | {runner._CRASHED[0], "failed"}


def _of_module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function, call in _calls(tree):
        if _name(call.func) != "Problem":
            continue
        code = _argument(call, 1, "code")
        if isinstance(code, ast.Constant):
            yield str(code.value)
        elif isinstance(code, ast.Name) and function is not None and code.id in _parameters(function):
            yield from _given(tree, function, code.id)
        elif isinstance(code, ast.Name) and function is not None and (held := set(_assigned(function, code.id))):
            yield from held
        elif path.name != "problem.py" and ast.unparse(code) not in PASSED_ON:
            msg = f"{path.name}, line {call.lineno}: a code is made up where this cannot see it"
            raise AssertionError(msg)


def _assigned(function: ast.FunctionDef, name: str) -> Iterator[str]:
    """Texts that a variable of a function is given."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for place, value in pairs:
                if _name(place) == name and isinstance(value, ast.Constant):
                    yield str(value.value)


def _given(tree: ast.Module, function: ast.FunctionDef, name: str) -> Iterator[str]:
    """Values that a function is called with for one of its parameters, its default too."""
    place = _parameters(function).index(name)
    defaults = function.args.defaults[place - len(function.args.args) :] if function.args.defaults else []
    values = [_argument(c, place, name) for _, c in _calls(tree) if _name(c.func) == function.name]
    for value in [*values, *defaults[:1]]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def _calls(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
    """Every call with the innermost function that it stands in."""

    def within(node: ast.AST, function: ast.FunctionDef | None) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
        for child_node in ast.iter_child_nodes(node):
            if isinstance(child_node, ast.Call):
                yield function, child_node
            inner = child_node if isinstance(child_node, ast.FunctionDef | ast.AsyncFunctionDef) else function
            yield from within(child_node, inner)  # type: ignore[arg-type]  # both kinds have arguments

    return within(tree, None)


def _argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    named = next((k.value for k in call.keywords if k.arg == name), None)
    return named or (call.args[place] if place < len(call.args) else None)


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in function.args.args]


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
