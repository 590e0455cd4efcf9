"""Tables: as text for the terminal, and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["html_table", "text_table"]


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of at most 120 characters a line; all columns but the first to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    # Names are no markup: brackets and colons mean themselves.
    console = Console(width=120, color_system=None, markup=False, emoji=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table as HTML, in whatever style the page has."""

    def line(tag: str, cells: Sequence[str]) -> str:
        sides = ["left", *["right"] * (len(cells) - 1)]
        made = [
            f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        ]
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    told = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    return f"<table>\n{told}<thead>{line('th', head)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
