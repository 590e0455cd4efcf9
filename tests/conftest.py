"""Which tests run, in which order, and with how many of Hypothesis's examples.

Tests marked `thorough` show for more cases what others show: they run with --thorough only, or when
they are named. Of a test with parameters these may be some cases, `@pytest.mark.thorough("a", "b")`, or
all but some, `@pytest.mark.thorough(but=["a", "b"])`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

# Tests do not depend on what processes before them have learnt of files; those of that have folders of
# their own (test_known).
os.environ["ROOTFEED_CACHE"] = "off"

# No deadlines: the first call of a kernel compiles it.
settings.register_profile("local", deadline=None)
# In CI the same examples every time: a red run is about the change, and can be had again.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)

# Files that come first, in this order: those that fork many workers, which costs as much as the process
# holds by then; and those of few tests that take long, which at last would keep one process busy alone.
FORKING = ["test_torch", "test_virtual_epochs", "test_lightning"]
FIRST = [*FORKING, "test_distributed", "test_lifetime", "test_memory"]

left_out = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="run the tests marked thorough, and more examples, too"
    )


def pytest_configure(config: pytest.Config) -> None:
    chosen = settings.get_profile("ci" if os.environ.get("CI") else "local")
    examples = 100 if config.getoption("thorough") else 20
    settings.register_profile("chosen", chosen, max_examples=examples)
    settings.load_profile("chosen")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("thorough"):
        leave_out(config, items)
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(FIRST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is thorough, unless the test or the case is named in pytest's arguments."""
    named = [argument.partition("::")[2] for argument in config.args if "::" in argument]
    kept, others, cases = [], [], set()
    for item in items:
        marker = item.get_closest_marker("thorough")
        test, _, case = item.nodeid.partition("[")
        some = () if marker is None else marker.args or marker.kwargs.get("but", ())
        cases.update((test, each) for each in some)
        listed = case.removesuffix("]") in some
        is_thorough = marker is not None and listed == bool(marker.args)
        is_named = any(name in item.nodeid for name in named)
        (others if is_thorough and not is_named else kept).append(item)
    unknown = cases - {tuple(item.nodeid.removesuffix("]").split("[", 1)) for item in items}
    if unknown and not (named or config.option.keyword or config.option.markexpr):
        raise pytest.UsageError(f"cases of the marker thorough that do not exist: {sorted(unknown)}")
    items[:] = kept
    config.stash[left_out] = len(others)
    config.hook.pytest_deselected(items=others)


# Processes of pytest-xdist collect the same tests, and tell the one that started them.


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(left_out, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[left_out] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if number := config.stash.get(left_out, 0):
        terminalreporter.write_line(
            f"{number} tests were left out, which show for more cases what others show: "
            "scripts/test --thorough runs them, too."
        )
