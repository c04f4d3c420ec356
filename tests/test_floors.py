"""Imports go down the floors only, and the package's promises about itself hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "advcli"
FLOORS = {
    "errors": 0,
    "lazy": 0,
    "threats": 1,
    "models": 1,
    "images": 1,
    "attacks": 2,
    "engine": 3,
    "audit": 4,
    "reports": 5,
    "cli": 6,
    "__main__": 7,
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path):
    """(module, whether it is only for the type checker or inside a function)"""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down(file):
    here = floor(file)
    if here == "__init__":
        return
    for module in imported(file):
        parts = module.split(".")
        if parts[0] != "advcli" or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        assert parts[1] == here or FLOORS[parts[1]] < FLOORS[here], f"{file} imports {module}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_heavy_modules_are_not_imported_at_module_level(file):
    tree = ast.parse(file.read_text())
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {n.split(".")[0] for n in names} & {"tensorflow", "keras"}


def test_the_floors_are_all_there():
    assert {floor(file) for file in FILES} == set(FLOORS) | {"__init__"}
