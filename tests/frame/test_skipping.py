"""Files that cannot be read: one error for all of them, or left out where that is asked for."""

from __future__ import annotations

import builtins
import errno
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.errors import (
    AccessError,
    ArgumentError,
    ChangedFileError,
    DamagedFileError,
    LimitError,
    MissingColumnError,
    MissingFileError,
    RootfeedError,
    SkippedFileWarning,
    StateError,
    UnreachableError,
    UnsupportedColumnError,
    of_files,
)
from rootfeed.frame import view_of
from samples import File, in_a_row, write_all, write_columns

FILES = in_a_row(*[File(100, page=30)] * 6)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return write_all(tmp_path / "files", FILES, ["id", "half", "label"])


def damage(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:150])


def remove(path: str) -> None:
    Path(path).unlink()


def rename_tree(path: str) -> None:
    write_columns(path, {"id": np.arange(5)}, name="others")


def be_no_file(path: str) -> None:
    remove(path)
    os.mkfifo(path)


def opened(paths: list[str], **options: Any) -> rf.Frame:
    return rf.open(dict.fromkeys(paths, "events"), **options)


def ids_of(*numbers: int) -> list[int]:
    return [each for number in numbers for each in range(100 * number, 100 * number + 100)]


# --- one error ------------------------------------------------------------------------------------


def test_an_error_names_all_bad_files(paths: list[str]) -> None:
    frame = opened(paths)
    damage(paths[1])
    damage(paths[4])
    for _ in range(2):
        with pytest.raises(DamagedFileError) as caught:
            frame.num_entries  # noqa: B018
        first, *lines = str(caught.value).splitlines()
        assert first == (
            '2 of 6 files cannot be used. rootfeed.open(..., on_error="skip") leaves such files out.'
        )
        assert [line.count(path) for line, path in zip(lines, paths[1::3], strict=True)] == [1, 1]
        assert isinstance(caught.value.__cause__, DamagedFileError)


def test_one_bad_file_has_its_own_error(paths: list[str]) -> None:
    frame = opened(paths)
    damage(paths[1])
    with pytest.raises(DamagedFileError) as caught:
        frame.num_entries  # noqa: B018
    assert str(caught.value).startswith(paths[1])
    assert "files cannot be used" not in str(caught.value)


def test_files_that_do_not_exist_are_named_at_once(paths: list[str]) -> None:
    remove(paths[0])
    remove(paths[3])
    with pytest.raises(MissingFileError, match="2 of 6 files cannot be used") as caught:
        opened(paths)
    assert paths[0] in str(caught.value)
    assert paths[3] in str(caught.value)


def test_the_common_class_of_different_errors(paths: list[str]) -> None:
    frame = opened(paths)
    damage(paths[1])
    remove(paths[2])
    with pytest.raises(RootfeedError, match="2 of 6 files cannot be used") as caught:
        frame.num_entries  # noqa: B018
    assert type(caught.value) is RootfeedError
    limit, server = LimitError("files"), UnreachableError("server")
    assert type(of_files([("a", limit), ("b", server)], 3)) is UnreachableError
    assert type(of_files([("a", limit), ("b", limit)], 3)) is LimitError


def test_the_first_twenty_are_shown() -> None:
    bad = [(f"{number}.root", DamagedFileError(f"is\nbad {'x' * 1000}")) for number in range(30)]
    text = str(of_files(bad, 100))
    lines = text.splitlines()
    assert len(lines) == 22
    assert lines[0].startswith("30 of 100 files cannot be used.")
    assert lines[1].startswith("  0.root: is bad xxx")
    assert lines[-1] == "  and 10 more"
    assert max(map(len, lines)) < 420


def test_columns_that_files_lack_are_no_bad_files(paths: list[str]) -> None:
    for path in paths[2:4]:
        write_columns(path, {"id": np.arange(5)})
    with uproot.recreate(paths[5]) as file:
        file["events"] = {"half": np.ones((5, 2, 2)), "id": np.arange(5)}
    damage(paths[4])
    frame = opened(paths, on_error="skip")
    with pytest.raises(MissingColumnError, match="3 of 6 files cannot be used") as caught:
        frame.arrays(["label"])
    assert "skip" not in str(caught.value)
    with pytest.raises(RootfeedError, match="3 of 6 files cannot be used") as caught:
        frame.arrays(["half"])
    assert "has the shape" in str(caught.value)
    assert paths[4] not in str(caught.value)  # it would be left out
    with pytest.warns(SkippedFileWarning):
        assert frame.num_entries == 215
    with pytest.raises(UnsupportedColumnError):
        opened([paths[0], paths[5]], on_error="skip").arrays(["half"])


def test_nobody_waits_for_all_files_of_a_server_that_is_away(paths: list[str]) -> None:
    away = [f"http://localhost:1/{number}.root" for number in range(50)]
    frame = rf.open(dict.fromkeys([*paths, *away], "events"), timeout=0.5)
    with pytest.raises(UnreachableError) as caught:
        frame.num_entries  # noqa: B018
    assert away[0] in str(caught.value)


# --- left out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [damage, remove, rename_tree, be_no_file])
@pytest.mark.parametrize("bad", [(0,), (0, 1, 4), (5,)])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_bad_files_are_left_out(
    paths: list[str], spoil: Callable[[str], None], bad: tuple[int, ...], elsewhere: bool
) -> None:
    good = [number for number in range(6) if number not in bad]
    whole = opened([paths[number] for number in good]).filter("half > 20")
    for number in bad:
        spoil(paths[number])
    with ThreadPoolExecutor(2) as pool:
        frame = opened(paths, on_error="skip", executor=pool if elsewhere else None)
        assert list(frame.columns) == ["id", "half", "label"]
        with pytest.warns(SkippedFileWarning) as warned:
            assert frame.num_entries == 100 * len(good)
        assert len(warned) == 1
        text = str(warned[0].message)
        assert text.startswith(f"{len(bad)} of 6 files cannot be read and ")
        assert warned[0].filename == __file__
        assert [each.path for each in frame.skipped] == [paths[number] for number in bad]
        for path, reason in frame.skipped:
            assert path in reason
            assert reason in text
            assert "\n" not in reason
        assert frame.files == tuple(paths[number] for number in good)
        assert frame.arrays(["id"])["id"].tolist() == ids_of(*good)
        cut = frame.filter("half > 20")
        assert cut.skipped == frame.skipped
        assert str(cut.report()) == str(whole.report())
        assert dict(cut.describe()) == dict(whole.describe())
        mine, theirs = (rf.Loader(each, 32, ["id"], seed=1) for each in (cut, whole))
        assert [bytes(x) for x in mine] == [bytes(x) for x in theirs]
        state = mine.state_dict()
        theirs.load_state_dict(state)


def test_it_is_never_the_default(paths: list[str]) -> None:
    damage(paths[0])
    with pytest.raises(DamagedFileError):
        opened(paths)
    with pytest.raises(ArgumentError, match="on_error"):
        opened(paths, on_error="ignore")
    assert opened(paths[1:]).skipped == ()


def test_skipped_reads_what_it_needs(paths: list[str]) -> None:
    damage(paths[2])
    frame = opened(paths, on_error="skip")
    with pytest.warns(SkippedFileWarning, match="frame.skipped lists it"):
        [(path, reason)] = frame.skipped
    assert path == paths[2]
    assert "truncated" in reason or "bytes" in reason


def test_where_all_are_bad_there_is_an_error(paths: list[str]) -> None:
    frame = opened(paths, on_error="skip")
    for path in paths[:5]:
        damage(path)
    other = opened(paths, on_error="skip")
    damage(paths[5])
    for each in (frame, other):
        with pytest.raises(RootfeedError, match=r"6 of 6 files cannot be used\.\n"):
            each.num_entries  # noqa: B018
    with pytest.raises(DamagedFileError, match=r"6 of 6 files cannot be used\.\n"):
        opened(paths, on_error="skip")
    for path in paths:
        remove(path)
    with pytest.raises(MissingFileError, match="6 of 6"):
        opened(paths, on_error="skip")
    with pytest.raises(MissingFileError, match="no file matches"):
        rf.open(f"{Path(paths[0]).parent}/*.root", on_error="skip")


def test_what_breaks_later_is_an_error(paths: list[str]) -> None:
    frame = opened(paths, on_error="skip")
    loader = rf.Loader(frame, 32, ["id"], seed=1)
    assert frame.skipped == ()
    damage(paths[3])
    with pytest.raises((ChangedFileError, DamagedFileError)):
        list(loader)
    with pytest.raises((ChangedFileError, DamagedFileError)):
        frame.arrays(["half"])  # whose entries are known
    assert frame.skipped == ()


def test_limits_are_never_skipped(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.open

    def fail(name: Any, *arguments: Any, **options: Any) -> Any:
        if str(name) in paths[2:4]:
            raise OSError(errno.EMFILE, "Too many open files")
        return really(name, *arguments, **options)

    frame = opened(paths, on_error="skip")
    damage(paths[4])
    monkeypatch.setattr(builtins, "open", fail)
    monkeypatch.setattr(
        os, "open", lambda name, *rest, really=os.open: _fails(name, paths, really, rest)
    )
    with pytest.raises(LimitError, match="2 of 6 files cannot be used") as caught:
        frame.num_entries  # noqa: B018
    assert "too many open files (EMFILE)" in str(caught.value)
    monkeypatch.undo()
    with pytest.warns(SkippedFileWarning, match="1 of 6"):
        assert frame.num_entries == 500


def _fails(name: Any, paths: list[str], really: Any, rest: Any) -> Any:
    if str(name) in paths[2:4]:
        raise OSError(errno.EMFILE, "Too many open files")
    return really(name, *rest)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files(paths: list[str]) -> None:
    os.chmod(paths[1], 0)
    with pytest.warns(SkippedFileWarning):
        assert opened(paths, on_error="skip").num_entries == 500
    with pytest.raises(AccessError):
        opened(paths).num_entries  # noqa: B018


def test_servers_that_are_away(paths: list[str]) -> None:
    pytest.importorskip("aiohttp")
    away = [f"http://localhost:1/{number}.root" for number in range(3)]
    frame = rf.open(dict.fromkeys([*away, *paths], "events"), timeout=0.2, on_error="skip")
    with pytest.warns(SkippedFileWarning, match="3 of 9"):
        assert frame.num_entries == 600
    assert [each.path for each in frame.skipped] == away


def test_a_warning_that_is_an_error_changes_nothing(paths: list[str]) -> None:
    damage(paths[2])
    frame = opened(paths, on_error="skip")
    with pytest.raises(SkippedFileWarning):  # warnings are errors in these tests
        frame.num_entries  # noqa: B018
    assert frame.num_entries == 500


def test_copies_have_left_out_the_same(paths: list[str]) -> None:
    damage(paths[2])
    frame = opened(paths, on_error="skip")
    unread = pickle.loads(pickle.dumps(frame))
    for each in (frame, unread):
        with pytest.warns(SkippedFileWarning):
            assert each.num_entries == 500
    again = pickle.loads(pickle.dumps(frame))
    shutil.copy(paths[1], paths[2])
    assert again.num_entries == 500
    assert again.skipped == frame.skipped


def test_a_state_of_other_files(paths: list[str]) -> None:
    def loader() -> rf.Loader:
        return rf.Loader(opened(paths, on_error="skip"), 32, ["id"], seed=1)

    state = loader().state_dict()
    whole = Path(paths[2]).read_bytes()
    damage(paths[2])
    with pytest.warns(SkippedFileWarning):
        fewer = loader()
    with pytest.raises(StateError, match="the files, or their order") as caught:
        fewer.load_state_dict(state)
    assert f'on_error="skip" leaves out now: {paths[2]}' in str(caught.value)
    state = fewer.state_dict()
    Path(paths[2]).write_bytes(whole)
    with pytest.raises(StateError, match="the files, or their order") as caught:
        loader().load_state_dict(state)
    assert "leaves out now" not in str(caught.value)


# --- with other columns beside --------------------------------------------------------------------


def test_files_beside_others(paths: list[str], tmp_path: Path) -> None:
    names = write_all(tmp_path / "scores", FILES, ["id"])
    damage(paths[1])
    damage(names[4])
    frame, other = opened(paths, on_error="skip"), opened(names, on_error="skip")
    joined = frame.join(other, prefix="s_")
    for each, bad in ((frame, [paths[1]]), (other, [names[4]]), (joined, [paths[1], paths[4]])):
        with pytest.warns(SkippedFileWarning):
            assert [path for path, _ in each.skipped] == bad
    # Also where it is known before which are bad: otherwise different files would be side by side.
    again = frame.join(other, prefix="s_")
    with pytest.warns(SkippedFileWarning):
        found = again.arrays(["id", "s_id"])
    assert found["id"].tolist() == found["s_id"].tolist() == ids_of(0, 2, 3, 5)


def test_rows_by_keys(paths: list[str]) -> None:
    damage(paths[1])
    frame = opened(paths, on_error="skip")
    other = rf.from_arrays({"id": np.arange(600), "more": np.arange(600) * 2})
    with pytest.warns(SkippedFileWarning):
        joined = frame.join(other, on="id")
    assert joined.skipped == frame.skipped
    assert joined.arrays(["more"])["more"].tolist() == [2 * each for each in ids_of(0, 2, 3, 4, 5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert joined.num_entries == 500


def test_friends(tmp_path: Path) -> None:
    paths = write_all(tmp_path, in_a_row(File(10), File(20), File(30)), ["id"])
    damage(paths[0])
    with pytest.raises(DamagedFileError):
        rf.open(paths, friends=True)
    frame = rf.open(paths, friends=True, on_error="skip")
    with pytest.warns(SkippedFileWarning, match="1 of 3"):
        assert frame.num_entries == 50


@pytest.mark.filterwarnings("ignore:.*is a copy of")
def test_a_damaged_file_of_thousands_does_not_hide_the_others(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "0.root") as file:
        file["events"] = {"id": np.arange(3)}
    paths = [str(tmp_path / f"{number}.root") for number in range(200)]
    for path in paths[1:]:
        os.link(paths[0], path)
    frame = rf.open(paths, on_error="skip")
    for path in paths[::4]:
        remove(path)
    with pytest.warns(SkippedFileWarning, match="and 30 more"):
        assert frame.num_entries == 450
    assert len(frame.skipped) == 50
    assert view_of(frame).files.locations[0].path == paths[1]
