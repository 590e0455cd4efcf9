"""The tree of errors, and the sentence that offers near names."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed import errors
from rootfeed.errors import RootfeedError, RootfeedWarning, nearest

BUILTINS = {
    "AccessError": PermissionError,
    "ArgumentError": ValueError,
    "ChangedFileError": OSError,
    "DamagedFileError": OSError,
    "EmptyDatasetError": ValueError,
    "EvaluationError": ValueError,
    "ExecutorError": RuntimeError,
    "ExpressionError": ValueError,
    "ExpressionTypeError": TypeError,
    "ForkedIteratorError": RuntimeError,
    "LimitError": OSError,
    "MissingColumnError": KeyError,
    "MissingFileError": FileNotFoundError,
    "MissingNameError": AttributeError,
    "MissingObjectError": KeyError,
    "NotFiniteError": ValueError,
    "SharedIteratorError": RuntimeError,
    "StateError": ValueError,
    "UnequalLengthsError": ValueError,
    "UnreachableError": OSError,
    "UnsupportedColumnError": TypeError,
    "UnsupportedFileError": OSError,
}
CLASSES = [getattr(errors, name) for name in errors.__all__ if inspect.isclass(getattr(errors, name))]


def test_the_table_is_complete() -> None:
    raised = {class_.__name__ for class_ in CLASSES if issubclass(class_, RootfeedError)}
    assert raised - {"RootfeedError"} == set(BUILTINS)


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_errors_are_builtins_too(name: str, builtin: type[Exception]) -> None:
    class_ = getattr(errors, name)
    assert issubclass(class_, RootfeedError)
    assert issubclass(class_, builtin)
    for caught in (RootfeedError, builtin):
        with pytest.raises(caught, match="what happened"):
            raise class_("what happened")


def test_warnings() -> None:
    assert issubclass(errors.PrecisionWarning, RootfeedWarning)
    assert issubclass(RootfeedWarning, UserWarning)
    assert not issubclass(RootfeedWarning, RootfeedError)


def test_the_tree_in_the_docstring() -> None:
    text = errors.__doc__ or ""
    for name, builtin in BUILTINS.items():
        (line,) = (line for line in text.splitlines() if f" {name} " in line)
        assert f"({builtin.__name__})" in line
    for class_ in CLASSES:
        assert class_.__name__ in text
        assert class_.__doc__


@pytest.mark.parametrize("class_", [class_ for class_ in CLASSES if issubclass(class_, RootfeedError)])
def test_messages_are_shown_as_they_are(class_: type[RootfeedError]) -> None:
    text = "file.root: column 'x' has \"quotes\", a \\ and a\nline"
    assert str(class_(text)) == text  # KeyError alone would show its repr
    assert str(class_()) == ""
    assert str(class_(text, "more")) == text


@pytest.mark.parametrize("class_", CLASSES)
def test_errors_can_be_pickled(class_: type[Exception]) -> None:
    for error in (class_("a message"), class_(), class_("a message", "and more")):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(again) is class_
            assert again.args == error.args
            assert str(again) == str(error)


# --- near names -----------------------------------------------------------------------------------


def test_near_names() -> None:
    assert nearest("pt", ["pt1", "eta", "phi"]) == "Did you mean 'pt1'?"
    assert nearest("muon_pt", ["Muon_pt", "muon_eta"]).startswith("Did you mean 'Muon_pt'")
    assert " or " in nearest("jet_p", ["jet_pt", "jet_px", "jet_py"])


def test_no_near_name() -> None:
    assert nearest("qqq", ["a", "b"]) == "There are: 'a', 'b'."
    assert nearest("qqq", []) == "There are none."
    many = [f"a{number:03}" for number in range(20)]
    text = nearest("qqq", many)
    assert text.endswith("'a007' and 12 more.")
    assert "'a008'" not in text
    assert nearest("qqq", iter(["a"])) == "There are: 'a'."


def test_names_that_differ_in_case_only() -> None:
    # Both exist; neither may be lost.
    text = nearest("PT", ["Pt", "pt"])
    assert "'Pt'" in text
    assert "'pt'" in text


@given(st.text(), st.lists(st.text(), max_size=10))
def test_any_text(name: str, candidates: list[str]) -> None:
    text = nearest(name, candidates)
    assert text.startswith(("Did you mean ", "There are"))
    assert text.endswith(("?", "."))
    assert len(text) < 200 + sum(len(repr(candidate)) + 4 for candidate in candidates)
