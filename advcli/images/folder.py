"""A folder of images -> who is in it, with which label.

    class folders   root/cat/a.jpg: sorted names are the class indices, as Keras's
                    image_dataset_from_directory counts them; deeper folders belong to their class
    a label file    root/a.jpg and a CSV of `file,label`
    neither         root/a.jpg: no labels, the model's own clean prediction is the reference

Where loose images lie beside folders that hold images, the folders are the classes and the loose
images are skipped by name; beside folders without images, the loose images are a flat folder.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from advcli.errors import ImagesError
from advcli.images.labels import LabelRow, label_indices, read_classes, read_rows
from advcli.images.scan import Skipped, Tree, scan
from advcli.images.text import printable

__all__ = ["ImageFolder", "ImageRef", "LabelSource", "Skipped", "check_classes", "open_folder"]

LabelSource = Literal["folder", "file", "model"]

_LISTED = 12  # names in a message; more are counted


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image file: its path relative to the root, "/" between parts, and its class index.

    A name that is no UTF-8 carries its bytes as surrogates (PEP 383): show it by `printable`.
    """

    path: str
    label: int | None


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder in a fixed order, and what was left out.

    `class_names` is in index order and empty where nothing names the classes. `notes` are remarks
    for the user about how the folder was understood, `folders` its own class folders, which
    `class_names` only are where no class list was given.
    """

    root: Path
    refs: tuple[ImageRef, ...]
    class_names: tuple[str, ...]
    label_source: LabelSource
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def file(self, ref: ImageRef) -> Path:
        """Where an image's file is."""
        return self.root / ref.path


def open_folder(
    root: Path | str,
    *,
    class_count: int | None = None,
    classes: Path | None = None,
    labels: Path | None = None,
) -> ImageFolder:
    """Reads a folder's layout, no pixels.

    `classes` is a list of class names in index order, `labels` a CSV; a relative path of either is
    looked for in the current directory, then in `root`. With `class_count`, `check_classes` too.

    Raises ImagesError where nothing is left to evaluate or the parts contradict one another.
    """
    root = Path(root)
    tree = scan(root)
    classes, labels = _located(classes, root), _located(labels, root)
    names = read_classes(classes) if classes is not None else None
    tree = _without_lists(tree, root, [path for path in (classes, labels) if path is not None])
    if labels is not None:
        folder = _by_file(root, tree, names, labels)
    elif any("/" in path for path in tree.files):
        folder = _by_folder(root, tree, names)
    else:
        folder = _unlabelled(root, tree, names)
    if not folder.refs:
        raise _nothing(folder)
    if class_count is not None:
        check_classes(folder, class_count)
    return folder


def check_classes(
    folder: ImageFolder, class_count: int, model_names: Sequence[str] | None = None
) -> None:
    """Raises ImagesError unless the folder's classes can be the model's `class_count` classes.

    `model_names`, where the model carries names, are shown beside the folder's.
    """
    names = folder.class_names
    shown = printable(str(folder.root))
    if names and len(names) != class_count:
        of_model = _listing(model_names) if model_names else f"0 to {class_count - 1}"
        beside = ""
        if folder.folders and folder.folders != names:
            beside = (
                f" in the class list, {len(folder.folders)} folders ({_listing(folder.folders)})"
            )
        raise ImagesError(
            f"{shown}: {len(names)} classes ({_listing(names)}){beside}, "
            f"but the model has {class_count} ({of_model})",
            _mismatch_hint(folder, class_count),
        )
    highest = max((ref.label for ref in folder.refs if ref.label is not None), default=-1)
    if highest >= class_count:
        raise ImagesError(
            f"{shown}: the label file has label {highest}, "
            f"but the model has {class_count} classes, counted from 0",
            "count labels from 0, or name the classes in index order with --classes FILE",
        )


def _by_folder(root: Path, tree: Tree, names: tuple[str, ...] | None) -> ImageFolder:
    source = names if names is not None else tree.folders
    index = {_key(name): i for i, name in enumerate(source)}
    refs: list[ImageRef] = []
    skipped = list(tree.skipped)
    for name in tree.folders:
        if _key(name) not in index:
            skipped.append(Skipped(f"{name}/", "the folder is in no line of the class list"))
    for path in tree.files:
        folder, slash, _ = path.partition("/")
        if not slash:
            skipped.append(Skipped(path, "lies beside the class folders, so has no label"))
        elif _key(folder) in index:
            refs.append(ImageRef(path, index[_key(folder)]))
    notes = []
    left_out = [entry.file for entry in skipped if "class list" in entry.reason]
    if left_out:
        notes.append(f"{len(left_out)} folder(s) not in the class list: {_listing(left_out)}")
    refs.sort(key=lambda ref: (ref.label, ref.path.split("/")))
    return ImageFolder(
        root,
        tuple(refs),
        tuple(source),
        "folder",
        _sorted(skipped),
        tuple(notes),
        tree.folders,
    )


def _by_file(root: Path, tree: Tree, names: tuple[str, ...] | None, labels: Path) -> ImageFolder:
    known = {_key(path): path for path in tree.files} | {path: path for path in tree.files}
    skipped = list(tree.skipped)
    notes: list[str] = []
    rows: dict[str, LabelRow] = {}
    clashes: set[str] = set()
    repeated = 0
    for row in read_rows(labels):
        path = _as_written(row.file, known)
        if path is None:
            reason = f"line {row.line} of the label file names it, but no such image was found"
            skipped.append(Skipped(row.file, reason))
            continue
        first = rows.setdefault(path, row)
        if first is row:
            continue
        repeated += 1
        if first.label != row.label and path not in clashes:
            clashes.add(path)
            lines = f"{first.line} and {row.line}"
            skipped.append(Skipped(path, f"lines {lines} of the label file contradict each other"))
    if repeated:
        notes.append(f"{repeated} row(s) of the label file name an image a second time")
    indices, known_names = label_indices([row.label for row in rows.values()], names, labels)
    refs: list[ImageRef] = []
    for path, label in zip(rows, indices, strict=True):
        if path in clashes:
            continue
        if isinstance(label, str):
            skipped.append(Skipped(path, label))
        else:
            refs.append(ImageRef(path, label))
    skipped += [
        Skipped(path, "no row in the label file") for path in tree.files if path not in rows
    ]
    refs.sort(key=lambda ref: ref.path.split("/"))
    return ImageFolder(root, tuple(refs), known_names, "file", _sorted(skipped), tuple(notes))


def _unlabelled(root: Path, tree: Tree, names: tuple[str, ...] | None) -> ImageFolder:
    refs = tuple(ImageRef(path, None) for path in tree.files)
    notes = ["no labels: the model's own prediction on each clean image is the reference"]
    if tree.folders:
        notes.append(f"sub-folders without images ignored: {_listing(tree.folders)}")
    return ImageFolder(root, refs, names or (), "model", tree.skipped, tuple(notes))


def _located(path: Path | None, root: Path) -> Path | None:
    if path is None or path.exists() or path.is_absolute():
        return path
    inside = root / path
    return inside if inside.exists() else path


def _without_lists(tree: Tree, root: Path, lists: Iterable[Path]) -> Tree:
    """The tree without the label file and class list that were given: they are no odd files."""
    given = {os.path.realpath(path) for path in lists}
    kept = []
    for entry in tree.skipped:
        if os.path.realpath(root / entry.file) in given:
            continue
        if entry.file.lower().endswith((".csv", ".tsv")):
            entry = Skipped(entry.file, "not an image; a label file is given by --labels FILE")
        kept.append(entry)
    return Tree(tree.files, tree.folders, tuple(kept))


def _as_written(file: str, known: Mapping[str, str]) -> str | None:
    """The image that a label file's entry means: exactly, or as Windows, a shell or macOS writes.

    `known`: every image under its path, and under its path with composed accents.
    """
    for candidate in (file, file.strip(), file.strip().replace("\\", "/")):
        for path in (candidate, candidate.removeprefix("./")):
            found = known.get(path) or known.get(_key(path))
            if found is not None:
                return found
    return None


def _key(name: str) -> str:
    """Names that look the same are the same: file systems differ in how they compose accents."""
    return unicodedata.normalize("NFC", name)


def _sorted(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda entry: (entry.file.split("/"), entry.reason)))


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 40) for name in names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown}, and {len(names) - _LISTED} more"


def _nothing(folder: ImageFolder) -> ImagesError:
    if folder.folders and not set(map(_key, folder.folders)) & set(map(_key, folder.class_names)):
        return ImagesError(
            f"{printable(str(folder.root))}: none of its folders ({_listing(folder.folders)}) is "
            f"in the class list ({_listing(folder.class_names)})",
            "write the class list with the folders' names, one a line, in index order",
        )
    first = folder.skipped[0] if folder.skipped else None
    because = ""
    if first is not None:
        name, more = printable(first.file, 60), len(folder.skipped) - 1
        because = f"; skipped: {name}: {first.reason}" + (f", and {more} more" if more else "")
    return ImagesError(
        f"{printable(str(folder.root))}: no images to evaluate{because}",
        "give a folder of class sub-folders with images, or a flat folder of images",
    )


def _mismatch_hint(folder: ImageFolder, class_count: int) -> str:
    """What to type: often the folder given is the one above (`data` for `data/test`)."""
    if folder.label_source == "folder":
        below: dict[str, set[str]] = {}
        for ref in folder.refs:
            first, *inner = ref.path.split("/")
            if len(inner) > 1:
                below.setdefault(first, set()).add(inner[0])
        for name, inner_names in below.items():
            if len(inner_names) == class_count:
                shown = printable(str(folder.root / name))
                return f"did you mean {shown}? It has {class_count} sub-folders with images"
        used = {ref.path.split("/")[0] for ref in folder.refs}
        if len(used) == class_count:
            empty = [name for name in folder.folders if name not in used]
            return f"without images, and counted: {_listing(empty)}; remove what is no class"
    return "name the model's classes in index order, one a line, with --classes FILE"
