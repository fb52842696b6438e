"""HTML from values: whatever is not made here is text, and escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Escapes ``children`` that are not ``Html``. Attributes: ``class_`` for ``class``, ``_`` for ``-``."""
    shown = "".join(f' {name.rstrip("_").replace("_", "-")}="{escape(v)}"' for name, v in attributes.items())
    return Html(f"<{tag}{shown}>{joined(children)}</{tag}>")


def joined(children: Iterable[str]) -> Html:
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def paragraph(*children: str) -> Html:
    return element("p", *children)


def note(*children: str) -> Html:
    return element("p", *children, class_="note")


def badge(text: str, kind: str = "") -> Html:
    return element("span", text, class_=f"badge {kind}".strip())


def bar(share: float) -> Html:
    """A bar of this share of its cell, from 0 to 1."""
    width = f"{min(max(share, 0.0), 1.0) * 100:.1f}%"
    return element("span", element("span", style=f"width:{width}"), class_="bar")


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = (), tall: bool = False
) -> Html:
    """Columns in ``right`` are numbers; those with nothing in them are left out.

    Where it is too wide, or ``tall`` and too high, it scrolls by itself; on a narrow screen each row of one
    that is not ``tall`` becomes a list."""
    cells = [list(row) for row in rows]
    kept = [k for k in range(len(headers)) if any(row[k] for row in cells)]
    kind = {k: {"class_": "number"} if headers[k] in set(right) else {} for k in kept}
    head = element("tr", *(element("th", headers[k], scope="col", **kind[k]) for k in kept))
    body = [
        element("tr", *(element("td", row[k], data_label=headers[k], **kind[k]) for k in kept))
        for row in cells
    ]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, class_="scroll tall" if tall else "scroll", tabindex="0")


def folded(summary: str, *children: str) -> Html:
    return element("details", element("summary", summary), *children)


def section(name: str, title: str, *children: str) -> Html:
    return element("section", element("h2", title), *children, id=name)
