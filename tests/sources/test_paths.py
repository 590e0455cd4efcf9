"""From what the user names to files: colons, addresses, patterns, duplicates, near names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pytest

from rootfeed.errors import ArgumentError, MissingFileError
from rootfeed.sources import Location, expand


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fill a folder with empty files; nothing here opens one."""
    for name in ["a.root", "b.root", "run[1].root", "x:y.root", "notes.txt", "sub/c.root"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(files: Any) -> list[tuple[str, str | None]]:
    return [(location.address.urls[0], location.object_path) for location in expand(files)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("a.root", [("a.root", None)]),
        ("a.root:events", [("a.root", "events")]),
        ("a.root:dir/events", [("a.root", "dir/events")]),
        ("a.root:events;2", [("a.root", "events;2")]),
        ("a.root:", [("a.root", None)]),
        (Path("a.root"), [("a.root", None)]),
        (PurePosixPath("a.root"), [("a.root", None)]),
        ("sub/c.root:t", [("sub/c.root", "t")]),
        # A file that exists is that file, whatever its name.
        ("x:y.root", [("x:y.root", None)]),
        ("x:y.root:events", [("x:y.root", "events")]),
        (Path("x:y.root"), [("x:y.root", None)]),
        ("run[1].root", [("run[1].root", None)]),
        ("run[1].root:events", [("run[1].root", "events")]),
        # Patterns.
        ("[ab].root", [("a.root", None), ("b.root", None)]),
        ("?.root:t", [("a.root", "t"), ("b.root", "t")]),
        ("**/*.root:t", [(f"{n}.root", "t") for n in ["a", "b", "run[1]", "sub/c", "x:y"]]),
        ("sub*/*", [("sub/c.root", None)]),
        # Several.
        (["b.root", "a.root:t"], [("b.root", None), ("a.root", "t")]),
        (("a.root",), [("a.root", None)]),
        ((name for name in ["b.root", "a.root"]), [("b.root", None), ("a.root", None)]),
        ({"a.root": "t"}, [("a.root", "t")]),
        ({"a.root": None, "b.root:t": None}, [("a.root", None), ("b.root", "t")]),
        ({"x:y.root": "t"}, [("x:y.root", "t")]),
        ({"[ab].root": "t"}, [("a.root", "t"), ("b.root", "t")]),
        ({Path("a.root"): "t"}, [("a.root", "t")]),
        # Two trees of one file are two datasets.
        (["a.root:t", "a.root:u"], [("a.root", "t"), ("a.root", "u")]),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_local_files(files: Any, expected: list[tuple[str, str | None]], folder: Path) -> None:
    assert names(files) == [(str(folder / path), name) for path, name in expected]


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("https://host/f.root", "https://host/f.root", None),
        ("https://host/f.root:events", "https://host/f.root", "events"),
        ("https://host:8080/f.root", "https://host:8080/f.root", None),
        ("https://host:8080/f.root:a/b", "https://host:8080/f.root", "a/b"),
        ("http://[::1]:8080/f.root", "http://[::1]:8080/f.root", None),
        ("http://[::1]:8080/f.root:t", "http://[::1]:8080/f.root", "t"),
        ("https://user:word@host/f.root:t", "https://user:word@host/f.root", "t"),
        ("root://host:1094//store/f.root", "root://host:1094//store/f.root", None),
        ("root://host//store/f.root:Events", "root://host//store/f.root", "Events"),
        ("s3://bucket/a/f.root:t", "s3://bucket/a/f.root", "t"),
        # The query of a signed address belongs to the address; the name goes into a mapping, or
        # behind ROOT's "#".
        ("https://host/f.root?key=a:b&c", "https://host/f.root?key=a:b&c", None),
        ("https://host/f.root?key=a:b&c#d/t", "https://host/f.root?key=a:b&c", "d/t"),
        ("https://host/f.root?#t", "https://host/f.root", "t"),
        ("root://host//f.root?authz=zteos64:MD", "root://host//f.root?authz=zteos64:MD", None),
        ("root://host//f.root?authz=zteos64:MD#t", "root://host//f.root?authz=zteos64:MD", "t"),
        ("zip://f.root::/data/z.zip", "zip://f.root::/data/z.zip", None),
        ("zip://f.root::/data/z.zip:t", "zip://f.root::/data/z.zip", "t"),
        ("zip://f.root::https://host/z.zip", "zip://f.root::https://host/z.zip", None),
        ("zip://f.root::https://host:80/z.zip", "zip://f.root::https://host:80/z.zip", None),
        ("zip://f.root::https://host:80/z.zip:t", "zip://f.root::https://host:80/z.zip", "t"),
        ("zip://f.root::https://host/z?a=b:c#t", "zip://f.root::https://host/z?a=b:c", "t"),
        ("zip://f.root::file:///data/z.zip", "zip://f.root::file:///data/z.zip", None),
        ("simplecache::https://host/f.root:t", "simplecache::https://host/f.root", "t"),
    ],
)
def test_addresses(text: str, path: str, name: str | None) -> None:
    assert expand(text) == (Location(path, name),)


def test_an_address_in_a_mapping_is_not_split() -> None:
    assert names({"https://host/f.root?a:b": "t"}) == [("https://host/f.root?a:b", "t")]


def test_file_addresses(folder: Path) -> None:
    address = f"file://{folder}/a.root"
    assert names(f"{address}:t") == [(f"{folder}/a.root", "t")]
    assert names(f"file://{folder}/[ab].root") == [
        (f"{folder}/a.root", None),
        (f"{folder}/b.root", None),
    ]
    with pytest.raises(MissingFileError, match="Did you mean 'a"):
        expand(f"file://{folder}/aa.root")


def test_drives_of_windows_are_not_trees() -> None:
    for path in (r"C:\data\f.root", "C:/data/f.root"):
        with pytest.raises(MissingFileError) as raised:
            expand(path)
        assert f"{path} does not exist" in str(raised.value)


def test_the_home_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert names("~/a.root:t") == [(f"{folder}/a.root", "t")]
    assert names(Path("~/a.root")) == [(f"{folder}/a.root", None)]
    assert names({"~/sub/*": None}) == [(f"{folder}/sub/c.root", None)]


@pytest.fixture
def memory() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    for name in ["/paths/b.root", "/paths/a.root", "/paths/deep/c.root"]:
        filesystem.pipe_file(name, b"")
    yield filesystem
    filesystem.rm("/paths", recursive=True)


def test_remote_patterns(memory: Any) -> None:
    found = names("memory://paths/*.root:t")
    assert [path.rpartition("/")[2] for path, _ in found] == ["a.root", "b.root"]
    assert all(path.startswith("memory://") and name == "t" for path, name in found)
    assert len(names("memory://paths/**/*.root")) == 3
    with pytest.raises(MissingFileError, match=r"^no file matches 'memory://paths/\*\.txt'\.$"):
        expand("memory://paths/*.txt")


def refused(files: Any, kind: type[Exception]) -> str:
    with pytest.raises(kind) as raised:
        expand(files)
    return str(raised.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("", "a file's name must not be empty."),
        (["a.root", ""], "a file's name must not be empty."),
        ([], "files must name at least one file, got none."),
        ({}, "files must name at least one file, got none."),
        (3, "files must be a path, a list of paths or a mapping of path to tree, got 3."),
        (None, "files must be a path, a list of paths or a mapping of path to tree, got None."),
        ([3], "a file must be named by a str or a Path, got 3."),
        ([b"a.root"], "a file must be named by a str or a Path, got b'a.root'. Write 'a.root'."),
        ([["a.root"]], "a file must be named by a str or a Path, got ['a.root']."),
        (
            np.zeros((3, 2)),
            "a file must be named by a str or a Path, got array([0., 0.]). "
            "Arrays are given by name: {'x': array}.",
        ),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_meant(files: Any, message: str, folder: Path) -> None:
    assert refused(files, ArgumentError) == message


@pytest.mark.parametrize(
    "files",
    [
        ["a.root", "a.root"],
        ["a.root", "./a.root"],
        ["a.root", "*.root"],
        ["sub/../a.root:t", "a.root:t"],
        ["link.root", "a.root"],
        ["a.root", Path("a.root")],
        ["https://host/a.root", "https://host/a.root"],
    ],
    ids=str,
)
def test_a_file_named_twice(files: Any, folder: Path) -> None:
    os.symlink("a.root", "link.root")
    message = refused(files, ArgumentError)
    assert message.endswith(
        " is named twice, so its entries would be repeated. "
        "To repeat entries on purpose, pass several frames to the loader."
    )


def test_missing_files_come_with_near_names(folder: Path) -> None:
    assert refused("aa.root:t", MissingFileError) == (
        f"{folder}/aa.root does not exist. In '{folder}': "
        "Did you mean 'a.root' or 'b.root' or 'x:y.root'?"
    )
    assert refused(folder / "Run1.root", MissingFileError) == (
        f"{folder}/Run1.root does not exist. In '{folder}': "
        "Did you mean 'run[1].root' or 'b.root' or 'a.root'?"
    )
    assert refused("nowhere/a.root", MissingFileError) == (
        f"{folder}/nowhere/a.root does not exist: there is no directory '{folder}/nowhere'."
    )
    (folder / "empty").mkdir()
    assert refused("empty/a.root", MissingFileError) == (
        f"{folder}/empty/a.root does not exist. In '{folder}/empty': It holds no ROOT files."
    )
    assert refused("*.rot:t", MissingFileError) == f"no file matches '{folder}/*.rot'."
    assert refused("nowhere/*.root:t", MissingFileError) == (
        f"no file matches '{folder}/nowhere/*.root': there is no directory '{folder}/nowhere'."
    )


def test_names_that_no_file_can_have() -> None:
    assert refused("n" * 300, MissingFileError).endswith("n does not exist: its name is too long.")
    assert re.search(r"cannot be a file's name: .*embedded null", refused("a\0b", ArgumentError))


def test_a_directory_is_no_file(folder: Path) -> None:
    message = f"{folder}/sub is a directory. To take the files in it, say '{folder}/sub/*.root'."
    assert refused("sub", MissingFileError) == message
    assert refused(Path("sub"), MissingFileError) == message
    # A pattern skips directories.
    (folder / "odd.root").mkdir()
    assert (f"{folder}/odd.root", None) not in names("*.root")


def test_errors_are_the_builtin_ones_too(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        expand("nowhere.root")
    with pytest.raises(ValueError, match="must not be empty"):
        expand("")
