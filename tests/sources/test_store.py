"""Bytes by key in a folder: what is put is there, for all, or it is not; never anything else."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

import processes
from rootfeed.errors import CacheWarning
from rootfeed.sources.storage import packs, store
from rootfeed.sources.storage.store import Store

LIMIT = 10_000_000


@pytest.fixture(autouse=True)
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for what others have put, and note what is used, at once."""
    monkeypatch.setattr(store, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(store, "_TOUCH_SECONDS", 0.0)


def entry(number: int, size: int = 1000) -> tuple[bytes, bytes]:
    return f"{number}".encode(), random.Random(number).randbytes(size)


def occupied(folder: Path) -> int:
    """Return what a folder takes on disk, as `du` counts."""
    return sum(os.stat(each).st_blocks * 512 for each in folder.iterdir())


def held(found: Store, numbers: range, size: int = 1000) -> int:
    """Return how many entries are there, and make sure that they are what was put."""
    count = 0
    for number in numbers:
        key, data = entry(number, size)
        if (got := found.get(key)) is not None:
            assert got == data
            count += 1
    return count


def put(found: Store, numbers: range, size: int = 1000) -> None:
    for number in numbers:
        found.put(*entry(number, size))


def test_what_is_put_is_there_for_this_process_and_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    one, two = Store(str(folder), LIMIT), Store(str(folder), LIMIT)
    assert one.get(b"0") is None
    assert not folder.exists()  # nothing was put
    one.put(b"", b"")
    put(one, range(100))
    assert one.get(b"") == two.get(b"") == b""
    assert held(one, range(100)) == held(two, range(200)) == 100
    one.put(b"1", b"another")
    one.close()
    three = Store(str(folder), LIMIT)
    assert three.get(b"1") == b"another"
    assert one.get(b"1") == b"another"
    assert os.stat(folder).st_mode & 0o777 == 0o700
    put(three, range(100, 110))
    put(one, range(110, 120))  # goes on with a pack of its own
    assert held(two, range(2, 120)) == 118


def test_keys_are_nowhere_on_disk(tmp_path: Path) -> None:
    Store(str(tmp_path), LIMIT).put(b"https://host/f?token=hushhush", b"data")
    for path in tmp_path.iterdir():
        assert b"hushhush" not in path.read_bytes() + path.name.encode()


def test_many_processes_in_turn_share_a_few_files(tmp_path: Path) -> None:
    for number in range(20):
        made = Store(str(tmp_path), LIMIT)
        put(made, range(number, number + 1))
        made.close()
    assert held(Store(str(tmp_path), LIMIT), range(20)) == 20
    assert len(list(tmp_path.iterdir())) == 2  # a pack and its index


def test_a_large_table_finds_what_a_small_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_LATEST", 16)
    one, two = Store(str(tmp_path), LIMIT), Store(str(tmp_path), LIMIT)
    for first in range(0, 1000, 50):
        put(one if first % 100 else two, range(first, first + 50), 10)
        assert held(one, range(1000), 10) == held(two, range(1000), 10) == first + 50
    one.put(b"7", b"seven")
    assert one.get(b"7") == b"seven"
    assert held(Store(str(tmp_path), LIMIT), range(8, 1000), 10) == 992


def test_the_limit_is_held_and_what_is_used_stays(tmp_path: Path) -> None:
    made, other = Store(str(tmp_path), LIMIT), Store(str(tmp_path), LIMIT)
    for number in range(2000):
        made.put(*entry(number, 20_000))
        other.put(*entry(10_000 + number, 2_000))
        if number % 50 == 0:
            assert made.get(entry(0)[0]) is not None  # used again and again
            assert occupied(tmp_path) <= LIMIT
    assert occupied(tmp_path) > 0.7 * LIMIT
    for each in (made, Store(str(tmp_path), LIMIT)):
        assert held(each, range(1900, 2000), 20_000) == 100
        assert held(each, range(100, 1000), 20_000) == 0
    made.put(b"large", bytes(LIMIT // 8))  # larger than a pack: not kept, and nobody is hurt
    assert made.get(b"large") is None


def test_damage_is_never_believed(tmp_path: Path) -> None:
    put(Store(str(tmp_path), LIMIT), range(200))
    chance = random.Random(3)
    for path in tmp_path.iterdir():
        data = bytearray(path.read_bytes())
        step = packs.RECORD_BYTES if path.suffix == packs.INDEX else packs.HEAD_BYTES + 1000
        # Of each entry in a pack; of every fifth record in the index.
        for start in range(0, 200 * step, step * (5 if path.suffix == packs.INDEX else 1)):
            data[start + chance.randrange(step)] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    found = Store(str(tmp_path), LIMIT)
    assert held(found, range(200)) == 0
    put(found, range(200))
    assert held(found, range(200)) == 200
    assert held(Store(str(tmp_path), LIMIT), range(200)) == 200  # also for who sees both


@pytest.mark.parametrize("cut", [1, 500, 20_000])
def test_files_that_are_cut_give_what_is_left(tmp_path: Path, cut: int) -> None:
    put(Store(str(tmp_path), LIMIT), range(100))
    for path in tmp_path.iterdir():
        os.truncate(path, max(0, path.stat().st_size - cut))
    found = Store(str(tmp_path), LIMIT)
    assert held(found, range(100)) < 100
    put(found, range(100))
    assert held(found, range(100)) == held(Store(str(tmp_path), LIMIT), range(100)) == 100


def test_packs_that_others_remove_are_missed(tmp_path: Path) -> None:
    made = Store(str(tmp_path), LIMIT)
    put(made, range(10))
    for path in tmp_path.iterdir():
        path.unlink()
    assert held(made, range(10)) == 0
    put(made, range(10))
    assert held(Store(str(tmp_path), LIMIT), range(10)) == 10


def run(text: str) -> None:
    """Run a script that uses what is defined here, and make sure that nothing fails in it."""
    beside = f"import sys; sys.path[:0] = {[str(parent) for parent in Path(__file__).parents[:2]]!r}\n"
    uses = "import signal, time, warnings\nfrom test_store import *\n"
    outcome = processes.run(beside + uses + text)
    assert outcome.code == 0, outcome.err


def test_several_processes_put_at_once(tmp_path: Path) -> None:
    run(f"""
children = []
for seed in range(3):
    child = os.fork()
    if not child:
        made = Store({str(tmp_path)!r}, LIMIT)
        for number in random.Random(seed).sample(range(1000), 1000):
            made.put(*entry(number))
            if number % 10 == 0:
                held(made, range(number, number + 10))
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
""")
    assert held(Store(str(tmp_path), LIMIT), range(1000)) == 1000
    assert len(list(tmp_path.iterdir())) <= 16  # packs of a 16th of the limit
    assert occupied(tmp_path) <= LIMIT


def test_a_process_may_be_killed_at_any_time(tmp_path: Path) -> None:
    run(f"""
folder = Path({str(tmp_path)!r})
for seed in range(12):
    child = os.fork()
    if not child:
        made = Store(str(folder), LIMIT)
        while True:
            for number in random.Random(seed).sample(range(1000), 1000):
                made.put(*entry(number, 5000))
    time.sleep(random.Random(seed).random() * 0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = Store(str(folder), LIMIT)
    kept = held(found, range(1000), 5000)
    assert occupied(folder) <= LIMIT
assert kept > 100, kept
put(found, range(1000), 5000)
assert held(found, range(1000), 5000) == 1000
""")


def test_a_fork_puts_into_a_pack_of_its_own(tmp_path: Path) -> None:
    run(f"""
made = Store({str(tmp_path)!r}, LIMIT)
put(made, range(10))
child = os.fork()
if not child:
    put(made, range(10, 20))
    os._exit(0 if held(made, range(20)) >= 20 else 2)
put(made, range(20, 30))
assert os.waitpid(child, 0)[1] == 0
store._LOOK_SECONDS = 0.0
assert held(made, range(30)) == 30
""")
    assert held(Store(str(tmp_path), LIMIT), range(30)) == 30


def test_a_full_disk_is_said_once_and_what_is_there_stays(tmp_path: Path) -> None:
    # A limit of the size of files stands for a disk: the same kind of error, from the same call.
    run(f"""
import resource
made = Store({str(tmp_path)!r}, 100_000_000)
put(made, range(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    put(made, range(10, 3000))
assert [each.category for each in said] == [CacheWarning], said
assert "cannot be written (File too large)" in str(said[0].message), said[0]
assert held(made, range(3000)) >= 10
""")
    assert held(Store(str(tmp_path), 100_000_000), range(3000)) >= 10


def test_a_folder_that_may_not_be_written_is_read() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rootfeed-store-", dir="/tmp"))  # which nobody may enter, too
    try:
        put(Store(str(folder), LIMIT), range(10))
        folder.chmod(0o555)
        for path in folder.iterdir():
            path.chmod(0o444)
        run(f"""
if os.getuid() == 0:
    os.setuid(65534)
made = Store({str(folder)!r}, LIMIT)
assert held(made, range(10)) == 10
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    put(made, range(10, 20))
assert [each.category for each in said] == [CacheWarning], said
assert "cannot be written (Permission denied)" in str(said[0].message), said[0]
assert held(made, range(20)) == 10
""")
    finally:
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = Store(str(tmp_path / "file" / "folder"), LIMIT)
    with pytest.warns(CacheWarning, match="Not a directory") as said:
        put(found, range(3))
    assert len(said) == 1
    assert found.get(b"0") is None
