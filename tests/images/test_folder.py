"""Folders as people have them: layouts, class lists, label files, links, hostile names."""

import os
from pathlib import Path

import pytest
from PIL import Image

from advcli.errors import ImagesError
from advcli.images.folder import check_classes, open_folder
from advcli.images.labels import label_indices, read_classes

ZOO = Path(__file__).parents[2] / "../shared/zoo/images"


def put(root: Path, *names: str) -> None:
    """Tiny real images (anything for names that are no image's)."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg", ".gif", ".bmp"):
            Image.new("L", (1, 1)).save(path)
        else:
            path.write_bytes(b"text")


def found(folder: object) -> list[tuple[str, int | None]]:
    return [(ref.path, ref.label) for ref in folder.refs]  # type: ignore[attr-defined]


def reasons(folder: object) -> dict[str, str]:
    return {entry.file: entry.reason for entry in folder.skipped}  # type: ignore[attr-defined]


# --- class folders


def test_sorted_names_are_the_indices(tmp_path: Path) -> None:
    put(tmp_path, "b/2.png", "b/1.JPG", "a/x.png", "B/y.gif", "10/i.png", "9/j.png")
    folder = open_folder(tmp_path)
    assert folder.class_names == ("10", "9", "B", "a", "b")  # code points, as Keras sorts
    assert found(folder) == [
        ("10/i.png", 0),
        ("9/j.png", 1),
        ("B/y.gif", 2),
        ("a/x.png", 3),
        ("b/1.JPG", 4),
        ("b/2.png", 4),
    ]
    assert folder.label_source == "folder"
    assert folder.skipped == ()


def test_nested_files_belong_to_their_class(tmp_path: Path) -> None:
    put(tmp_path, "a/x/y/1.png", "a/0.png", "b/deep/2.png")
    assert found(open_folder(tmp_path)) == [("a/0.png", 0), ("a/x/y/1.png", 0), ("b/deep/2.png", 1)]


def test_an_empty_class_counts(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "c/2.png")
    (tmp_path / "b").mkdir()
    folder = open_folder(tmp_path, class_count=3)
    assert folder.class_names == ("a", "b", "c")
    assert found(folder) == [("a/1.png", 0), ("c/2.png", 2)]


def test_litter_is_ignored_and_the_rest_reported(tmp_path: Path) -> None:
    put(
        tmp_path,
        *("a/1.png", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", ".git/x.png", "a/.hid/x.png"),
        *("a/notes.txt", "README.md", "loose.png", "a/._1.png"),
    )
    folder = open_folder(tmp_path)
    assert folder.class_names == ("a",)
    assert found(folder) == [("a/1.png", 0)]
    assert set(reasons(folder)) == {"a/notes.txt", "README.md", "loose.png"}
    assert "beside the class folders" in reasons(folder)["loose.png"]


def test_extensions_can_lie_or_lack(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/page.png", "a/photo.heic")
    (tmp_path / "a/1.png").rename(tmp_path / "a/no-extension")
    (tmp_path / "a/page.png").rename(tmp_path / "a/page.tmp")
    folder = open_folder(tmp_path)
    assert [path for path, _ in found(folder)] == ["a/no-extension", "a/page.tmp"]
    assert ".heic" in reasons(folder)["a/photo.heic"]


def test_count_mismatch_names_both(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/2.png")
    both = r"2 classes \(cat, dog\), but the model has 10 \(0 to 9\)"
    with pytest.raises(ImagesError, match=both) as caught:
        open_folder(tmp_path, class_count=10)
    assert "--classes" in caught.value.hint
    folder = open_folder(tmp_path)
    with pytest.raises(ImagesError, match=r"has 3 \(x, y, z\)"):
        check_classes(folder, 3, ["x", "y", "z"])
    check_classes(folder, 2)


def test_the_folder_above_is_recognised(tmp_path: Path) -> None:
    put(tmp_path, "test/cat/1.png", "test/dog/1.png", "train/cat/1.png", "extra/1.png")
    with pytest.raises(ImagesError) as caught:
        open_folder(tmp_path, class_count=2)
    assert f"did you mean {tmp_path / 'test'}" in caught.value.hint


def test_a_folder_that_is_no_class_is_pointed_out(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/2.png", "__MACOSX/cat/._1.png")
    with pytest.raises(ImagesError, match=r"3 classes \(__MACOSX, cat, dog\)") as caught:
        open_folder(tmp_path, class_count=2)
    assert "without images, and counted: __MACOSX; remove" in caught.value.hint


# --- class lists


def test_a_class_list_orders_and_allows_a_subset(tmp_path: Path) -> None:
    put(tmp_path, "images/cat/1.png", "images/dog/1.png", "images/junk/1.png")
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfdog\r\nowl\r\ncat\r\n\r\n")
    folder = open_folder(tmp_path / "images", class_count=3, classes=tmp_path / "classes.txt")
    assert folder.class_names == ("dog", "owl", "cat")
    assert found(folder) == [("dog/1.png", 0), ("cat/1.png", 2)]
    assert "class list" in reasons(folder)["junk/"]
    assert "junk" in folder.notes[0]


def test_a_class_list_of_other_classes_is_shown_beside_the_folders(tmp_path: Path) -> None:
    put(tmp_path, "images/cat/1.png", "images/dog/1.png")
    (tmp_path / "classes.txt").write_text("dog\nowl\ncat\n")
    options = {"classes": tmp_path / "classes.txt"}
    both = r"\(dog, owl, cat\) in the class list, 2 folders \(cat, dog\), but the model has 5"
    with pytest.raises(ImagesError, match=both):
        open_folder(tmp_path / "images", class_count=5, **options)
    (tmp_path / "classes.txt").write_text("Cat\nDog\n")
    both = r"none of its folders \(cat, dog\) is in the class list \(Cat, Dog\)"
    with pytest.raises(ImagesError, match=both) as caught:
        open_folder(tmp_path / "images", class_count=2, **options)
    assert "folders' names" in caught.value.hint


def test_a_class_list_inside_the_folder_is_no_odd_file(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png")
    (tmp_path / "names.txt").write_text("cat\n")
    assert open_folder(tmp_path, classes=Path("names.txt")).skipped == ()


def test_accents_match_however_composed(tmp_path: Path) -> None:
    put(tmp_path, "e\u0301/1.png")
    (tmp_path / "names.txt").write_text("x\n\u00e9\n", encoding="utf-8")
    assert found(open_folder(tmp_path, classes=tmp_path / "names.txt")) == [("e\u0301/1.png", 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a\n\nb\n", "line 2"),
        (b"a\nb\na\n", "lines 1 and 3"),
        ("a\nb\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_bad_class_lists(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ImagesError, match=message):
        read_classes(tmp_path / "names.txt")


def test_a_missing_class_list(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png")
    with pytest.raises(ImagesError, match="No such file"):
        open_folder(tmp_path, classes=tmp_path / "nowhere.txt")


# --- label files


def labelled(root: Path, content: str | bytes, **options: object) -> object:
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    (root / "labels.csv").write_bytes(data)
    return open_folder(root, labels=root / "labels.csv", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        "a.png,1\nb.png,0\n",
        "file,label\na.png,1\nb.png,0\n",
        "\ufefffile,label\r\na.png,1\r\nb.png,0\r\n",
        'filename;class\n"a.png";1\n./b.png;0',
        "id\timage_name\ttarget\n7\ta.png\t1\n8\tb.png\t0\n",
        "label,file\n1.0,a.png\n\n 0 ,b.png\n",
        "a.png,1\ra.png,1\rb.png,0\r",
    ],
)
def test_label_files_as_spreadsheets_write_them(tmp_path: Path, content: str) -> None:
    put(tmp_path, "a.png", "b.png")
    folder = labelled(tmp_path, content)
    assert found(folder) == [("a.png", 1), ("b.png", 0)]
    assert folder.label_source == "file"  # type: ignore[attr-defined]
    assert folder.skipped == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("on_disk", "written"), [("e\u0301", "\u00e9"), ("\u00e9", "e\u0301")])
def test_accents_in_a_label_file_match_however_composed(
    tmp_path: Path, on_disk: str, written: str
) -> None:
    put(tmp_path, f"{on_disk}.png")
    folder = labelled(tmp_path, f"file,label\n{written}.png,1\n")
    assert found(folder) == [(f"{on_disk}.png", 1)]
    put(tmp_path, f"{written}.png")  # where both are there, each means itself
    folder = labelled(tmp_path, f"file,label\n{written}.png,1\n{on_disk}.png,0\n")
    assert dict(found(folder)) == {f"{written}.png": 1, f"{on_disk}.png": 0}


def test_names_are_sorted_or_follow_the_class_list(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    content = "file,label\na.png,dog\nb.png,cat\n"
    folder = labelled(tmp_path, content, class_count=2)
    assert folder.class_names == ("cat", "dog")  # type: ignore[attr-defined]
    assert found(folder) == [("a.png", 1), ("b.png", 0)]
    with pytest.raises(ImagesError, match="2 classes"):
        labelled(tmp_path, content, class_count=3)
    (tmp_path / "names.txt").write_text("dog\nowl\ncat\n")
    folder = labelled(tmp_path, content, class_count=3, classes=tmp_path / "names.txt")
    assert found(folder) == [("a.png", 0), ("b.png", 2)]


def test_what_is_wrong_with_a_row_is_reported(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}.png" for name in "abcdefg"))
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    folder = labelled(
        tmp_path,
        "file,label\na.png,dog\nb.png,dgo\nc.png,7\nd.png,\ne.png,cat\ne.png,dog\n"
        "f.png,1\nf.png,1\nnowhere.png,cat\n../../etc/passwd,cat\n",
        classes=tmp_path / "names.txt",
    )
    assert found(folder) == [("a.png", 0), ("f.png", 1)]
    why = reasons(folder)
    assert "did you mean 'dog'" in why["b.png"]
    assert "there are 2" in why["c.png"]
    assert "empty" in why["d.png"]
    assert "lines 6 and 7" in why["e.png"]
    assert "no row" in why["g.png"]
    assert "line 10" in why["nowhere.png"]
    assert "line 11" in why["../../etc/passwd"]
    assert "2 row(s)" in folder.notes[0]  # type: ignore[attr-defined]


def test_an_index_beyond_the_models_classes(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    with pytest.raises(ImagesError, match="label 10, but the model has 10"):
        labelled(tmp_path, "a.png,1\nb.png,10\n", class_count=10)


def test_hostile_rows(tmp_path: Path) -> None:
    name = 'a,"b"\n\u202e\udcff.png'
    put(tmp_path, name)
    quoted = name.replace('"', '""')
    assert found(labelled(tmp_path, f'file,label\n"{quoted}",3\n')) == [(name, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"file,label\n", "no rows"),
        (b"file,label\na.png\n", "line 2 has 1 column"),
        (b'a.png,"1\n', "no CSV"),
        (b'a.png\t"1"x\n', r"no CSV: '\\t' expected"),
        (b"a.png," + b"x" * 200_000, "no CSV"),
        (b"a.png,1\nb.png,cat\n", "some labels are indices"),
        ("a.png,1\n".encode("utf-16"), "UTF-8"),
        (b"\x00\x01\x02", "UTF-8"),
    ],
)
def test_bad_label_files(tmp_path: Path, content: bytes, message: str) -> None:
    put(tmp_path, "a.png", "b.png")
    with pytest.raises(ImagesError, match=message):
        labelled(tmp_path, content)


def test_a_label_file_nobody_asked_for_is_pointed_out(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "labels.csv")
    folder = open_folder(tmp_path)
    assert folder.label_source == "model"
    assert "--labels" in reasons(folder)["labels.csv"]


def test_classes_called_by_numbers_are_names_first() -> None:
    assert label_indices(["1", "3"], ["3", "2", "1"], Path("x")) == ([2, 0], ("3", "2", "1"))
    # "0" is no name here, so all of them are indices
    assert label_indices(["0", "1"], ["1", "2"], Path("x")) == ([0, 1], ("1", "2"))


# --- no labels, nothing, mixed


def test_flat_without_labels(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.png")
    folder = open_folder(tmp_path, class_count=1000)
    assert found(folder) == [("a.png", None), ("b.png", None)]
    assert folder.label_source == "model"
    assert "prediction" in folder.notes[0]


def test_flat_beside_an_empty_folder_stays_flat(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "later").mkdir()
    folder = open_folder(tmp_path)
    assert folder.label_source == "model"
    assert "later" in folder.notes[1]


def test_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="no images to evaluate"):
        open_folder(tmp_path)
    put(tmp_path, "cat/x.txt", "dog/\x1b[2J.txt")
    with pytest.raises(ImagesError, match=r"cat/x\.txt: not an image.*1 more") as caught:
        open_folder(tmp_path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "file.png", "nul\0name"])
def test_no_folder_at_all(tmp_path: Path, name: str) -> None:
    put(tmp_path, "file.png")
    with pytest.raises(ImagesError) as caught:
        open_folder(tmp_path / name)
    assert "folder" in caught.value.hint


# --- links and odd files


def test_links_are_not_followed_out_or_around(tmp_path: Path) -> None:
    put(tmp_path, "out/secret.png", "out/more/1.png", "in/cat/1.png", "in/dog/1.png")
    root = tmp_path / "in"
    (root / "cat/inside.png").symlink_to(root / "dog/1.png")
    (root / "cat/outside.png").symlink_to(tmp_path / "out/secret.png")
    (root / "cat/broken.png").symlink_to("nowhere.png")
    (root / "cat/self.png").symlink_to("self.png")
    (root / "cat/loop").symlink_to(root)
    (root / "owl").symlink_to(tmp_path / "out/more")
    folder = open_folder(root)
    assert folder.class_names == ("cat", "dog", "owl")  # the others keep their indices
    assert found(folder) == [("cat/1.png", 0), ("cat/inside.png", 0), ("dog/1.png", 1)]
    why = reasons(folder)
    assert "leads out" in why["cat/outside.png"]
    assert "leads out" in why["owl/"]
    assert "broken" in why["cat/broken.png"]
    assert "broken" in why["cat/self.png"]
    assert "not followed" in why["cat/loop/"]


def test_a_root_that_is_a_link_is_fine(tmp_path: Path) -> None:
    put(tmp_path, "real/cat/1.png")
    (tmp_path / "real/cat/again.png").symlink_to("1.png")
    (tmp_path / "link").symlink_to("real")
    assert len(open_folder(tmp_path / "link").refs) == 2


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png")
    os.mkfifo(tmp_path / "cat/pipe.png")
    assert "regular" in reasons(open_folder(tmp_path))["cat/pipe.png"]


def test_unreadable_parts_cost_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png", "dog/odd")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    folder = open_folder(tmp_path)
    assert found(folder) == [("dog/1.png", 1)]
    assert "Permission denied" in reasons(folder)["cat/"]


HOSTILE = [
    *("a\nb.png", 'it\'s "it".png', "\u202egnp.png", "x" * 251 + ".png", "\udcff.png", "a b .png"),
    *("x\\..\\..\\up.png", "a..png", "-rf.png", "%2e%2e%2fup.png", "C:x.png", "~.png", "*?.png"),
]


def test_hostile_names_are_images_like_any_other(tmp_path: Path) -> None:
    put(tmp_path, *(f"\x1b[31m/{name}" for name in HOSTILE))
    folder = open_folder(tmp_path)
    assert {ref.path.split("/")[1] for ref in folder.refs} == set(HOSTILE)
    assert folder.class_names == ("\x1b[31m",)
    with pytest.raises(ImagesError) as caught:
        check_classes(folder, 2)
    assert "\x1b" not in caught.value.message


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"no real images at {ZOO}")
@pytest.mark.parametrize(
    ("name", "images", "classes"),
    [("cifar10", 500, 10), ("gtsrb", 430, 43), ("facemask", 80, 2), ("photographs", 40, 0)],
)
def test_real_folders(name: str, images: int, classes: int) -> None:
    folder = open_folder(ZOO / name)
    assert (len(folder.refs), len(folder.class_names)) == (images, classes)
    assert folder.skipped == ()
