"""Texts that are long, deep or full of digits: an answer within seconds, and no RecursionError."""

from __future__ import annotations

import time

import pytest

from expression.helpers import TYPES, define
from rootfeed.errors import RootfeedError
from rootfeed.expression import infer


@pytest.mark.parametrize(
    "text",
    [
        *(
            "(" * 9_000,
            "(" * 4_500 + "i" + ")" * 4_500,
            "[" * 9_000,
            "-" * 9_000 + "i",
            "!" * 9_000 + "i",
        ),
        *("v[" * 4_000, "i ? " * 2_000 + "i", "i ? i : " * 1_000 + "i", "i if b else " * 700 + "i"),
        *(
            "sqrt(" * 1_800 + "i" + ")" * 1_800,
            "i ** " * 1_500 + "i",
            "not " * 2_000 + "i",
            "i." * 4_000 + "i",
        ),
        *(
            "+".join(["i"] * 4_000),
            "<".join(["i"] * 4_000),
            "&&".join(["i"] * 3_000),
            "|".join(["i"] * 4_000),
        ),
        *(
            "i" * 10_000,
            "9" * 9_999,
            "1" + "0" * 5_000,
            "1e" + "9" * 5_000,
            "0x" + "f" * 9_000,
            "." * 9_000,
        ),
        *("i" * 10_001, "i + " * 1_000_000, "{" + "1," * 4_000 + "1}", "max(" * 1_000, "v[v>" * 2_000),
        *("((i+" * 60 + "i" + "))" * 60, "(v+" * 90 + "v" + ")" * 90, "(i<" * 90 + "i" + "<i)" * 90),
        *("(b?" * 40 + "i" + ":i)" * 40, "(v[0]&&" * 40 + "i" + ")" * 40),
    ],
    ids=lambda text: f"{text[:12]}…{len(text)}",
)
def test_an_answer_comes_soon(text: str) -> None:
    begun, message = time.monotonic(), ""
    try:
        infer([define("result", text)], TYPES, "python")
    except RootfeedError as error:
        message = str(error)
    assert len(message) < 1_000
    assert time.monotonic() - begun < 10
