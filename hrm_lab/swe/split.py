"""Take a file of tests apart, so that each test has an outcome of its own. Nothing is run here.

Three shapes are known: pytest modules (functions and classes, unittest's too, `parametrize` once, no fixtures), the
`check(candidate)` of HumanEval with its call, and plain assertions (MBPP). Unusual: in the last two, every assertion,
or loop of assertions, is a test; the statements between are set-up that each test repeats.
"""

import ast
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """Tests taken apart: `setup` runs once after the program, in its names; then each (id, source) of `tests`."""

    setup: str
    tests: tuple[tuple[str, str], ...]
    imports: tuple[str, ...]  # modules that the set-up imports
    aliases: tuple[str, ...]  # those among them that are the program
    module: str  # name of the program's module
    native: bool  # a pytest module; else the tests are assertions taken out of their place

    def orders(self) -> dict:
        return {"setup": self.setup, "tests": [body for _, body in self.tests], "imports": self.imports,
                "aliases": self.aliases, "module": self.module}

    def pytest_names(self) -> list[tuple[str, str]]:
        """(id, pytest's name) of each test."""
        return [(name, name if self.native else f"test_{i}") for i, (name, _) in enumerate(self.tests)]

    def as_pytest(self, tests: str) -> str:
        """Text of a pytest module of these tests, `tests` being the text that they came from."""
        names = (f"import {self.module} as _program\n"
                 "globals().update({k: v for k, v in vars(_program).items() if not k.startswith('__')})\n")
        if self.native:
            return tests if self.aliases else names + tests
        made = [ast.fix_missing_locations(ast.FunctionDef(f"test_{i}", ast.parse("def f(): 0").body[0].args,
                                                          ast.parse(body).body, [], None, None))
                for i, (_, body) in enumerate(self.tests)]
        return names + self.setup + "\n" + source(made) + "\n"


def has_assert(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Assert) for inner in ast.walk(node))


def says_nothing(node: ast.stmt) -> bool:
    """`assert True`, which HumanEval's authors left in place of a test."""
    return isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and bool(node.test.value)


def assertions(body: list[ast.stmt], name: str) -> list[tuple[str, list[ast.stmt]]]:
    """(id, statements) of each assertion of `body`, with the statements without assertion that come before it."""
    before, found = [], []
    for statement in body:
        if not has_assert(statement):
            before.append(statement)
        elif not says_nothing(statement):
            found.append((f"{name}:{len(found) + 1}", [*before, statement]))
    return found


def source(statements: list[ast.stmt]) -> str:
    return "\n".join(map(ast.unparse, statements))


def cases(function: ast.FunctionDef) -> str:
    """The call of a test function, for each of its cases. ValueError: fixtures, or more than one `parametrize`."""
    marks = [d for d in function.decorator_list
             if isinstance(d, ast.Call) and ast.unparse(d.func).endswith("parametrize")]
    wanted = [a.arg for a in function.args.args[:len(function.args.args) - len(function.args.defaults)]]
    names = []
    if len(marks) == 1:
        given = ast.literal_eval(marks[0].args[0])
        names = [n.strip() for n in given.split(",")] if isinstance(given, str) else list(given)
    if len(marks) > 1 or set(wanted) - set(names) - {"self"}:
        raise ValueError(f"tests: {function.name} takes {', '.join(wanted)}; expected no fixtures and at most one "
                         "parametrize (`sandbox.confirm` runs such tests in pytest)")
    if not marks:
        return f"{function.name}()"
    values = "[case]" if len(names) == 1 else "case"
    return (f"for case in {function.name}.pytestmark[0].args[1]:\n"
            f"    {function.name}(**dict(zip({names!r}, getattr(case, 'values', {values}) "
            f"if type(case).__name__ == 'ParameterSet' else {values})))")


def methods(kind: ast.ClassDef) -> list[tuple[str, str]]:
    """(id, source) of each test method of a class."""
    own = [f.name for f in kind.body if isinstance(f, ast.FunctionDef)]
    found = []
    for name in own:
        if name.startswith("test"):
            if any("TestCase" in ast.unparse(base) for base in kind.bases):
                body = f"{kind.name}({name!r}).debug()"
            else:
                ready = "case.setup_method(); " if "setup_method" in own else ""
                body = f"case = {kind.name}(); {ready}case.{name}()"
            found.append((f"{kind.name}::{name}", body))
    return found


def parts(tests: str, calls: bool) -> tuple[list[ast.stmt], list[tuple[str, str]], bool]:
    """Set-up statements, (id, source) of each test, and whether these are pytest's own."""
    try:
        tree = ast.parse(tests)
    except SyntaxError as error:
        raise ValueError(f"tests: line {error.lineno}: {error.msg}; expected Python") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    setup, found, bare, taken = [], [], [], []
    for node in tree.body:
        called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        inner = functions.get(called.id) if isinstance(called, ast.Name) else None
        if inner and has_assert(inner):
            taken.append(inner)
            for name, body in assertions(inner.body, inner.name):
                short = ast.FunctionDef(inner.name, inner.args, body, [], None, None)
                found.append((name, source([ast.fix_missing_locations(short), node])))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            setup.append(node)
            if not any(isinstance(n, ast.Expr) and isinstance(n.value, ast.Call) and
                       isinstance(n.value.func, ast.Name) and n.value.func.id == node.name for n in tree.body):
                found.append((node.name, cases(node) if calls else ""))
        elif isinstance(node, ast.ClassDef) and ("test" in node.name.lower() or any("TestCase" in ast.unparse(b)
                                                                                   for b in node.bases)):
            setup.append(node)
            found += methods(node)
        elif isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        elif has_assert(node) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            bare.append(node)
        else:
            setup.append(node)
    native = any(":" not in name or "::" in name for name, _ in found)
    found += [(name, source(body)) for name, body in assertions(bare, "assert")]
    if not found:
        raise ValueError("tests: no test found; expected functions test*, classes Test*, a called check(candidate) "
                         "or assertions")
    counts: dict[str, int] = {}
    for i, (name, body) in enumerate(found):  # a second test of the same name gets a number
        counts[name] = counts.get(name, 0) + 1
        found[i] = (name if counts[name] == 1 else f"{name}#{counts[name]}", body)
    return [node for node in setup if node not in taken], found, native


def suite(tests: str, module: str | None = None, calls: bool = True) -> Suite:
    """Take `tests` apart. `module`: what they import the program as; default: what they import and nobody has.

    Without `calls` the sources of pytest's functions stay empty, and fixtures are no error.

    Raises ValueError: not Python, no test, or tests that need pytest itself.
    """
    setup, found, native = parts(tests, calls)
    imports = set()
    for node in (inner for statement in setup for inner in ast.walk(statement)):
        if isinstance(node, ast.Import):
            imports |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module.split(".")[0])
    aliases = {name for name in imports if name == module or module is None and not importlib.util.find_spec(name)}
    return Suite(source(setup), tuple(found), tuple(sorted(imports)), tuple(sorted(aliases)),
                 module or min(aliases, default="program"), native)


def split_tests(tests: str) -> list[tuple[str, str]]:
    """(id, source) of each test; the source runs alone, after the program, in the program's names. Errors: `suite`."""
    taken = suite(tests)
    return [(name, f"{taken.setup}\n{body}".lstrip("\n")) for name, body in taken.tests]
