"""Refuses a model file that could run code, read other files or exhaust memory, before any load.

The list is of what is allowed: a class that nobody here has looked at is refused by default. The
layers below compute tensors from tensors; none takes a path, a module's name or Python code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from advcli.errors import ModelError
from advcli.models.classes import ALLOWED, OPERATIONS, RUNS_CODE, TEXT
from advcli.models.header import Header
from advcli.models.sniff import shown
from advcli.models.stored import Stored
from advcli.models.tensor_functions import is_harmless

MAX_DECLARED_BYTES = 8 * 2**30
MAX_RATIO = 100
FREE_BYTES = 2**20
"""Declared bytes may exceed stored ones by `MAX_RATIO` (compression), beyond a free megabyte."""

_MODULE_ROOTS = ("keras", "builtins", "tensorflow.keras", "tensorflow.python.keras", "tf_keras")


def scan(
    header: Header, *, allow_unsafe: bool = False, custom: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Refuses an unsafe file; returns what of its own code a load will run (nothing, normally).

    **Arguments**
    - `custom`: names of classes and functions that the user gives the code of.
    - `allow_unsafe`: the user's word that code in the file may run. Links to other files and
      declarations of absurd size stay refused.

    Raises `ModelError` with the class or object at fault.
    """
    where = shown(header.path)
    _check_storage(where, header.stored)
    runs: dict[str, None] = {}
    for name, reason, harmless in _suspects(header.config, custom):
        if harmless:
            raise ModelError(f"{where}: {reason}", "advcli audits image classifiers")
        if not allow_unsafe:
            raise ModelError(
                f"{where}: {reason}",
                "if you trust the file's author: --allow-unsafe-model"
                if name in RUNS_CODE
                else "if you have the code of this layer and trust it: "
                "--custom-objects FILE.py:NAME",
            )
        runs[reason] = None
    return tuple(runs)


def _check_storage(where: str, stored: tuple[Stored, ...]) -> None:
    declared = held = 0
    for item in stored:
        if item.storage != "plain":
            raise ModelError(
                f"{where}: its object '{shown(item.name, 80)}' is kept by {item.storage}, "
                "so it would read outside itself",
                "no Keras model needs that: do not trust this file",
            )
        declared += item.declared_bytes
        held += item.stored_bytes
        if item.declared_bytes > FREE_BYTES + MAX_RATIO * item.stored_bytes:
            raise ModelError(
                f"{where}: its weight '{shown(item.name, 80)}' declares "
                f"{item.declared_bytes:,} bytes and stores {item.stored_bytes:,}",
                "the file is damaged, or made to exhaust memory",
            )
    if declared > MAX_DECLARED_BYTES or declared > FREE_BYTES + MAX_RATIO * held:
        raise ModelError(
            f"{where}: its weights declare {declared:,} bytes and store {held:,}",
            "the file is damaged, or made to exhaust memory",
        )


def _suspects(config: object, custom: frozenset[str]) -> Iterator[tuple[str, str, bool]]:
    """(class name, reason, refused even when unsafe is allowed) for all that is not allowed."""
    pending: list[object] = [config]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        if not isinstance(item, dict):
            continue
        name = item.get("class_name")
        # What trained the model is neither built nor run by a load with compile=False, and what
        # a code-carrying layer consists of is named with the layer.
        skipped = (
            "compile_config",
            "config" if isinstance(name, str) and name in RUNS_CODE else "compile_config",
        )
        pending.extend(value for key, value in item.items() if key not in skipped)
        if "function_type" in item and item["function_type"] != "function":
            yield "Lambda", f"carries {RUNS_CODE['Lambda']} (function_type)", False
        if is_harmless(item):
            continue
        # a function's name is its configuration
        named = item.get("config") if name == "function" else name
        if name is None or (isinstance(named, str) and named.split(">")[-1] in custom):
            continue
        yield from _judge(item, name)


def _judge(item: dict[str, Any], name: object) -> Iterator[tuple[str, str, bool]]:
    if not isinstance(name, str):
        yield "", f"has a class name that is {type(name).__name__}", True
        return
    inner = item.get("config")
    called = inner.get("name") if isinstance(inner, dict) else inner
    label = f"'{shown(name, 60)}'" + (f" ({shown(called, 60)})" if isinstance(called, str) else "")
    if name in RUNS_CODE:
        yield name, f"its layer {label} runs {RUNS_CODE[name]}", False
    elif name in TEXT:
        yield name, f"its layer {label} takes text or categories, so it is no image model", True
    elif name not in ALLOWED and not (name in OPERATIONS and "module" in item):
        yield name, f"its layer {label} is none of Keras's own", False
    module = item.get("module")
    if module is not None and not _own(module):
        yield name, f"its layer {label} comes from the module '{shown(module, 60)}'", False
    registered = item.get("registered_name")
    if registered not in (None, "", name) and name not in RUNS_CODE:
        yield name, f"its layer {label} is registered as '{shown(registered, 60)}'", False


def _own(module: object) -> bool:
    return isinstance(module, str) and any(
        module == root or module.startswith(f"{root}.") for root in _MODULE_ROOTS
    )
