"""Imported before the first cell of each page: warnings and errors are shown as one message."""

import sys
import warnings
from typing import Any

from IPython import get_ipython

from rootfeed import errors

shown: set[str] = set()
"""Names of what was warned of or raised so far."""


def check_all_shown() -> None:
    """Refuse a page that does not show every error and every warning."""
    bases = {"RootfeedError", "RootfeedWarning"}
    missing = (
        {name for name in errors.__all__ if isinstance(getattr(errors, name), type)} - bases - shown
    )
    assert not missing, f"the page shows no {sorted(missing)}"


def _one_message(message: Warning | str, category: type[Warning], *_: object) -> str:
    shown.add(category.__name__)
    return f"{category.__name__}: {message}\n"


def _one_error(
    _: Any, kind: type, error: BaseException, *__: object, tb_offset: int | None = None
) -> None:
    shown.add(kind.__name__)
    print(f"{kind.__name__}: {error}", file=sys.stderr)


warnings.formatwarning = _one_message
get_ipython().set_custom_exc((Exception,), _one_error)
