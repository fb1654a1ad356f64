"""The modules of each Rust crate have declared layers: a module names only modules of lower layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

# The files and folders at the top of a crate, from the highest layer to the lowest. Modules of one layer do not name
# each other. A folder stands for all its files.
LAYERS = {
    "python": [
        {"lib"},
        {"models"},
        {"store"},
        {"errors"},
        {"values", "panics", "ids"},
        {"exception"},
    ],
    "ids": [
        {"lib"},
        {"bounds", "engine", "parse"},
        {"node", "strategy"},
        {"base32", "base62", "hex", "iso8601", "minter"},
        {"refusal"},
        {"node_choice"},
        {"chacha", "clock", "error", "kind", "node_lock"},
    ],
    "dynamodb": [
        {"lib"},
        {"store", "internals"},
        {"worker"},
        {"operations"},
        {"client"},
        {"shared"},
        {"aws"},
        {"wire"},
        {"transport"},
        {"config"},
    ],
    "runtime": [
        {"lib"},
        {"worker", "address", "tls"},
        {"deadline", "encrypted", "generations", "parameters"},
        {"generation", "lock", "notices", "pause", "stop", "tls_records", "token"},
    ],
    "store": [
        {"lib"},
        {"submission", "transaction"},
        {"store", "units"},
        {"request"},
        {"json", "query", "reply"},
        {"description", "guard", "item_error", "position", "size", "update"},
        {"key_encoding", "table"},
        {"condition", "unique"},
        {"path"},
        {"error"},
        {"key", "names"},
        {"value", "json_text"},
        {"metrics", "number", "work"},
    ],
    "store-testkit": [
        {"lib"},
        {"tables"},
        {"batches", "catalog", "items", "queries", "ranges", "scans", "transactions", "transfers", "unique"},
        {"fixture", "requests", "server"},
    ],
    "sqlite": [
        {"lib"},
        {"store"},
        {"workers"},
        {"operations"},
        {"writing"},
        {"reading"},
        {"shared"},
        {"catalog"},
        {"layout", "storage"},
        {"config", "entry"},
    ],
    "redis": [
        {"lib"},
        {"store", "internals"},
        {"driver"},
        {"operations"},
        {"transport"},
        {"config"},
        {"keyspace"},
        {"protocol", "eviction_warning"},
    ],
}

# A store crate whose top has more files and folders is hard to survey.
STORES = {"dynamodb", "redis", "sqlite"}
MOST_AT_THE_TOP = 12

# A module by its path in the crate: () is lib.rs, ("wire", "json") is wire/json.rs.
Module = tuple[str, ...]

NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\br(?P<raw>\#*)".*?"(?P=raw)|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'""", re.DOTALL
)
TEST_ONLY = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*")
USE = re.compile(r"\buse\s+([^;]+);")
PATH = re.compile(r"\b(?:crate|self|super)(?:::\w+)+")
CHILD = re.compile(r"\bmod\s+(\w+)\s*;")
INLINE_MODULE = re.compile(r"\bmod\s+\$?\w+\s*\{")
OUTER = re.compile(r"(?<!super::)\bsuper::")


def test_every_crate_has_layers(crates):
    assert LAYERS.keys() == crates.keys()


@pytest.mark.parametrize("crate", LAYERS)
def test_modules_name_only_what_lies_below_them(root, crate):
    assert violations(root / "crates" / crate / "src", LAYERS[crate]) == []


@pytest.mark.parametrize("crate", LAYERS)
def test_no_files_name_each_other_in_a_circle(root, crate):
    assert circles_of(graph(root / "crates" / crate / "src")) == []


@pytest.mark.parametrize("crate", LAYERS)
def test_the_layers_name_what_is_there(root, crate):
    declared = [name for layer in LAYERS[crate] for name in layer]
    assert sorted(declared) == sorted({top(module) for module in modules(root / "crates" / crate / "src")})
    assert crate not in STORES or len(declared) <= MOST_AT_THE_TOP


@pytest.mark.parametrize(
    ("file", "code", "named"),
    [
        ("low.rs", "use crate::high::Thing;", "high"),
        ("inside/one.rs", "use crate::{low::{A, B}, inside::{three, two as other}, high as third};", "high"),
        ("low.rs", "fn f() -> crate::high::Thing { todo!() }", "high"),
        ("low.rs", "use super::high;", "high"),
        ("inside/one.rs", "use super::super::high::Thing;", "high"),
        ("inside/mod.rs", "fn f() { super::high::f() }", "high"),
        ("low.rs", "use crate::Thing;", "lib"),
        ("lib.rs", "fn f() { high::f() }", None),
        ("high.rs", "use super::low::{self, Thing};", None),
        ("low.rs", '// crate::high\n/* crate::high */\nconst A: &str = "crate::high";', None),
        ("low.rs", "#[cfg(test)]\nmod tests {\n use crate::high::Thing; fn f() { if true { } }\n}", None),
        ("low.rs", "#[cfg(test)]\nuse crate::high::{One, Two};", None),
        ("low.rs", "mod own { use super::super::high::Thing; fn f() { if true { } } }", "high"),
        ("inside/one.rs", "mod own { use super::{two, Thing}; use crate::high::{A, B}; }", "high"),
        ("low.rs", "mod own { use super::Thing; }\nfn f() { own::f() }", None),
    ],
)
def test_what_is_named_is_found(tmp_path, file, code, named):
    write(tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as changed:
        changed.write(code)

    found = violations(tmp_path, [{"lib"}, {"high"}, {"inside"}, {"low"}])

    lower = {"low.rs": "low", "inside/one.rs": "inside/one", "inside/mod.rs": "inside"}
    assert found == ([] if named is None else [f"{lower[file]} names {named}, which is not below it"])


def test_a_circle_is_found(tmp_path):
    write(tmp_path)
    (tmp_path / "inside" / "one.rs").write_text("use super::two::A;", "utf-8")
    (tmp_path / "inside" / "two.rs").write_text("use crate::inside::three::{B, C};", "utf-8")
    (tmp_path / "inside" / "three.rs").write_text("fn f() { super::one::f() }", "utf-8")
    assert circles_of(graph(tmp_path)) == [["inside/one", "inside/three", "inside/two"]]


def write(source: Path) -> None:
    """A crate with two files and a folder."""
    (source / "inside").mkdir()
    (source / "lib.rs").write_text("mod high;\nmod inside;\nmod low;\n", "utf-8")
    (source / "inside" / "mod.rs").write_text("mod one;\nmod three;\nmod two;\n", "utf-8")
    for name in ("high.rs", "low.rs", "inside/one.rs", "inside/two.rs", "inside/three.rs"):
        (source / name).write_text("", "utf-8")


def violations(source: Path, layers: list[set[str]]) -> list[str]:
    """What modules name although it is not in a lower layer than they are."""
    depth = {name: number for number, layer in enumerate(layers) for name in layer}
    return sorted(
        f"{shown(module)} names {shown(target)}, which is not below it"
        for module, targets in graph(source).items()
        for target in targets
        if top(module) != top(target) and depth[top(module)] >= depth[top(target)]
    )


def circles_of(named: dict[Module, set[Module]]) -> list[list[str]]:
    """The files of each circle: those that reach each other."""
    reached = {module: reachable(named, module) for module in named}
    circles = {
        frozenset({module} | {other for other in reached[module] if module in reached[other]})
        for module in named
        if module in reached[module]
    }
    return sorted(sorted(map(shown, circle)) for circle in circles)


def reachable(named: dict[Module, set[Module]], start: Module) -> set[Module]:
    found: set[Module] = set()
    left = list(named[start])
    while left:
        module = left.pop()
        if module not in found:
            found.add(module)
            left += named[module]
    return found


def graph(source: Path) -> dict[Module, set[Module]]:
    """The modules that each module names, tests left out."""
    files = modules(source)
    return {module: set(targets(module, code, files.keys())) - {module} for module, code in files.items()}


def modules(source: Path) -> dict[Module, str]:
    """The modules of a crate and their code, tests left out."""
    found: dict[Module, str] = {}
    tests: list[Module] = []
    for path in sorted(source.rglob("*.rs")):
        parts = path.relative_to(source).with_suffix("").parts
        module = parts[:-1] if parts[-1] in {"lib", "mod"} else parts
        code, test_modules = without_tests(NOT_CODE.sub(blank, path.read_text("utf-8")))
        found[module] = without_inline_modules(code)
        tests += [(*module, name) for name in test_modules]
    return {module: code for module, code in found.items() if not any(module[: len(test)] == test for test in tests)}


def blank(found: re.Match[str]) -> str:
    """Nothing for a comment, an empty text for a text."""
    return "" if found[0].startswith("/") else '""'


def without_tests(code: str) -> tuple[str, list[str]]:
    """The code without items for tests, and the names of modules for tests that have a file."""
    kept, names, start = "", [], 0
    while mark := TEST_ONLY.search(code, start):
        kept += code[start : mark.start()]
        start = end_of_item(code, mark.end())
        names += CHILD.findall(code[mark.end() : start])
    return kept + code[start:], names


def without_inline_modules(code: str) -> str:
    """The code with the contents of inline modules in place of the modules: they count as a part of the file."""
    while mark := INLINE_MODULE.search(code):
        end = end_of_item(code, mark.start())
        code = code[: mark.start()] + OUTER.sub("self::", code[mark.end() : end - 1]) + code[end:]
    return code


def end_of_item(code: str, start: int) -> int:
    """Where the item that starts here ends: at its semicolon, or at its closing brace."""
    brace, semicolon = code.find("{", start), code.find(";", start)
    if code.startswith(("use ", "pub use "), start) or brace < 0 or 0 <= semicolon < brace:
        return semicolon + 1
    depth = 0
    for index in range(brace, len(code)):
        depth += {"{": 1, "}": -1}.get(code[index], 0)
        if depth == 0:
            return index + 1
    raise AssertionError("a brace is not closed")


def targets(module: Module, code: str, known: Collection[Module]) -> Iterator[Module]:
    """The modules that code names."""
    children = set(CHILD.findall(code))
    paths = [path for used in USE.findall(code) for path in expanded(used)]
    paths += [match[0].split("::") for match in PATH.finditer(USE.sub("", code))]
    paths += [[child] for child in children if re.search(rf"\b(?<!::){child}::", USE.sub("", code))]
    for path in paths:
        start = resolved(module, path, children)
        if start is not None:
            while start not in known:
                start = start[:-1]
            yield start


def expanded(used: str) -> Iterator[list[str]]:
    """The paths of a `use`, of which each brace holds several."""
    used = re.sub(r"\s+as\s+\w+", "", used).strip()
    before, brace, rest = used.partition("{")
    if not brace:
        yield [part for part in re.sub(r"\s", "", used).split("::") if part]
        return
    depth, member = 0, ""
    for character in rest:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0 or (depth == 0 and character == ","):
            if member.strip():
                yield from expanded(before + member)
            member = ""
        else:
            member += character


def resolved(module: Module, path: list[str], children: set[str]) -> Module | None:
    """The path from the crate's root; None if it leads out of the crate."""
    first, *rest = path
    if first == "crate":
        found: Module = ()
    elif first == "self":
        found = module
    elif first == "super":
        found = module[:-1]
    elif first in children:
        found, rest = module, path
    else:
        return None
    while rest and rest[0] == "super":
        found, rest = found[:-1], rest[1:]
    return (*found, *(part for part in rest if part not in {"self", "*"}))


def top(module: Module) -> str:
    """The file or folder at the top of the crate that a module is in."""
    return module[0] if module else "lib"


def shown(module: Module) -> str:
    return "/".join(module) or "lib"
