"""The reference has a place for everything that is public, and the guide one for every message."""

from __future__ import annotations

import re
from inspect import isclass
from pathlib import Path

import pytest

import rootfeed as rf
import rootfeed.root
from rootfeed import errors

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("api/*.md"))}
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:\w+):: ([\w.]+)(?:\(\))?$((?:\n +\S.*)*)", re.MULTILINE)
DOCUMENTED = {name: options for text in PAGES.values() for name, options in DIRECTIVE.findall(text)}


@pytest.mark.parametrize("name", rf.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert {name, f"rootfeed.{name}"} & set(DOCUMENTED)


@pytest.mark.parametrize("module", [errors, rootfeed.root])
def test_whole_modules_are_in_the_reference(module: object) -> None:
    assert ":members:" in DOCUMENTED[module.__name__]  # which takes everything in __all__
    for name in module.__all__:
        assert getattr(module, name).__doc__, name


def test_every_page_of_the_reference_and_the_guide_is_in_its_contents() -> None:
    for folder in ("api", "guide"):
        contents = (DOCS / folder / "index.md").read_text(encoding="utf-8")
        listed = contents.partition("{toctree}")[2].split()
        pages = {path.stem for path in DOCS.glob(f"{folder}/*.md")} - {"index"}
        assert pages <= set(listed)


def test_every_message_is_explained() -> None:
    text = (DOCS / "guide/troubleshooting.md").read_text(encoding="utf-8")
    explained = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    classes = {name for name in errors.__all__ if isclass(getattr(errors, name))}
    assert sorted(explained) == sorted(classes - {"RootfeedError", "RootfeedWarning"})
