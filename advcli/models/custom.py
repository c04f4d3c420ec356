"""`--custom-objects`: classes and functions that the user names for those in a model file.

Only code that the user points to runs, never the model's own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from advcli.errors import UsageError
from advcli.models.sniff import shown

__all__ = ["custom_names", "load_objects", "under_all_names"]

_HINT = "write FILE.py:NAME or MODULE:NAME, for instance --custom-objects layers.py:MyLayer"


def custom_names(specs: Iterable[str]) -> frozenset[str]:
    """The names that `specs` give; nothing is imported. Raises `UsageError`."""
    return frozenset(name for _, name in map(_split, specs))


def load_objects(specs: Iterable[str]) -> dict[str, Any]:
    """Imports what `specs` name, each `FILE.py:NAME` or `MODULE:NAME`; raises `UsageError`."""
    objects: dict[str, Any] = {}
    for spec in specs:
        source, name = _split(spec)
        module = _imported(spec, source)
        if not hasattr(module, name):
            public = ", ".join(sorted(n for n in vars(module) if not n.startswith("_"))[:20])
            raise UsageError(
                f"--custom-objects {shown(spec)}: it has no {shown(name)!r}",
                f"it has: {shown(public)}" if public else "it holds nothing",
            )
        objects[name] = getattr(module, name)
    return objects


def under_all_names(config: object, custom: Mapping[str, Any]) -> dict[str, Any]:
    """`custom`, and again under each `package>name` that the configuration has for one of them."""
    found = dict(custom)
    for text in _texts(config):
        tail = text.split(">")[-1]
        if tail in custom:
            found[text] = custom[tail]
    return found


def _split(spec: str) -> tuple[str, str]:
    source, colon, name = spec.rpartition(":")
    if not colon or not source or not name.isidentifier():
        raise UsageError(f"--custom-objects {shown(spec)}: names no object", _HINT)
    return source, name


def _imported(spec: str, source: str) -> Any:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        path = Path(source)
        if not path.is_file():
            raise UsageError(f"--custom-objects {shown(spec)}: no such file", "check the path")
        name = f"advcli custom {path.resolve()}"
        if name in sys.modules:
            return sys.modules[name]
        found = importlib.util.spec_from_file_location(name, path)
        if found is None or found.loader is None:
            raise UsageError(f"--custom-objects {shown(spec)}: is no Python file", _HINT)
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # as dataclasses in it expect
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
    except UsageError:
        raise
    except Exception as error:  # it is the user's own code: whatever it raises is their answer
        raise UsageError(
            f"--custom-objects {shown(spec)}: cannot be imported: "
            f"{type(error).__name__}: {shown(error)}",
            "try: python -c 'import …' in the same environment",
        ) from error


def _texts(config: object) -> Iterator[str]:
    pending = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
