"""Bearer tokens: by options and by the environment, shown to who asks for one and to nobody else."""

from __future__ import annotations

import importlib.util
import os
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rootfeed as rf
from rootfeed.errors import AccessError
from rootfeed.sources.storage import tokens
from rootfeed.sources.storage import web as web_storage
from samples import File, write
from servers import Web, serve

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*rows mix badly"),
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp") is None, reason="fsspec reads http with aiohttp"
    ),
]

TOKEN = "hushhush42"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("files") / "f.root"
    write(path, File(1000, page=100, format="RNTuple"))
    return path.read_bytes()


@pytest.fixture
def web(data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(web_storage, "_closed", set())
    with serve({"/f.root": data}) as web:
        web.token = TOKEN
        yield web


def ids(url: str, **access: Any) -> int:
    return len(rf.open({url: "events"}, **access).arrays(["id"])["id"])


def test_by_options(web: Web) -> None:
    headers = {"headers": {"Authorization": f"Bearer {TOKEN}"}}
    assert ids(f"{web.url}/f.root", storage_options=headers) == 1000
    with pytest.raises(AccessError, match="401"):
        ids(f"{web.url}/f.root")


@pytest.mark.parametrize("where", ["BEARER_TOKEN", "BEARER_TOKEN_FILE", "XDG_RUNTIME_DIR"])
def test_by_the_environment(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / f"bt_u{os.geteuid()}"
    if where == "BEARER_TOKEN":
        monkeypatch.setenv(where, TOKEN)
    else:
        path.write_text(f"{TOKEN}\n")
        monkeypatch.setenv("BEARER_TOKEN_FILE", str(path)) if where == "BEARER_TOKEN_FILE" else None
    frame = rf.open({f"{web.url}/f.root": "events"})
    again = pickle.loads(pickle.dumps(frame))
    assert len(frame.arrays(["id"])["id"]) == 1000
    web_storage._closed.clear()  # as in another process
    assert len(again.arrays(["id"])["id"]) == 1000
    assert TOKEN not in repr(frame) + repr(vars(frame))
    if where != "BEARER_TOKEN":
        web.token = "another"  # as when it is renewed
        path.write_text("another")
        assert len(again.arrays(["id", "root"])["root"]) == 1000


def test_the_first_one_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"bt_u{os.geteuid()}").write_text("third")
    (tmp_path / "file").write_text(" second\n")
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "file"))
    monkeypatch.setenv("BEARER_TOKEN", "first")
    found = [tokens.bearer_token()]
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(name)
        found.append(tokens.bearer_token())
    assert found == ["first", "second", "third"]
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "none"))
    assert tokens.bearer_token() is None


def test_a_token_that_is_refused_is_told_without_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARER_TOKEN", "whisper42")
    with pytest.raises(AccessError, match="Check the access rights") as raised:
        ids(f"{web.url}/f.root")
    assert "whisper42" not in "".join(traceback.format_exception(raised.value))
    assert len(web.asked) <= 4  # not again and again


def test_who_does_not_ask_gets_none(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARER_TOKEN", TOKEN)
    seen: list[str | None] = []
    monkeypatch.setattr(web, "token", "")
    handler = web.handler
    monkeypatch.setattr(
        handler,
        "answer",
        lambda self, answer=handler.answer: (
            seen.append(self.headers.get("Authorization")),
            answer(self),
        ),
    )
    assert ids(f"{web.url}/f.root") == 1000
    assert seen
    assert set(seen) == {None}
    assert tokens.may_send("https://host/f")
    assert tokens.may_send("http://[::1]:80/f")
    assert not tokens.may_send("http://host/f")  # where everybody on the way reads it
