"""What is shown: a line for `repr`, tables in the terminal and in notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from samples import write_columns

NAME = "a <b>&[red]"


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    path = tmp_path_factory.mktemp("tables") / "events.root"
    columns = {"id": np.arange(100), "half": np.arange(100) / 2}
    return rf.open(write_columns(Path(path), columns)).alias(NAME, "id").filter("id < 80", NAME)


SHOWN: dict[str, Any] = {
    "frame": lambda frame: frame,
    "report": lambda frame: frame.report(),
    "summary": lambda frame: frame.describe(),
    "plan": lambda frame: rf.Loader(frame, 10, ["id"], seed=1).plan(),
}


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("what", SHOWN)
def test_a_repr_is_one_line_and_notebooks_show_a_table(frame: rf.Frame, what: str) -> None:
    shown = SHOWN[what](frame)
    assert "\n" not in repr(shown)
    assert repr(shown).startswith("<")
    cells = Cells()
    cells.feed(shown._repr_html_())
    assert not cells.open
    assert len({len(row) for row in cells.rows}) == 1
    if what == "plan":
        assert ["rows of the loader", "80"] in cells.rows
    else:  # names are no markup
        assert NAME in [row[0] for row in cells.rows]
    if what != "frame":
        text = str(shown)
        assert all(row[0] in text for row in cells.rows)
