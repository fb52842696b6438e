"""What the page is made of: escaping, numbers, groups, axes."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_plans import without_names

from planner.page.charts import Chart, across, axis, layout, lines, log_axis, ramp, upright
from planner.page.evidence import gist
from planner.page.html import Html, bar, element, table
from planner.page.words import milliseconds, number, percent, without_folders
from planner.units import format_change

printable = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)


class Read(HTMLParser):
    """The texts, the tags and the attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.values = "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@given(printable, printable)
def test_any_text_is_text_and_any_attribute_a_value(text: str, value: str) -> None:
    read = Read(element("p", text, element("b", text), title=value))
    assert read.text == text + text
    assert read.tags == ["p", "b"]
    assert read.values == [value]


@given(st.lists(st.tuples(printable, printable), min_size=1, max_size=4))
def test_a_table_shows_its_cells_and_leaves_out_what_is_empty(rows: list[tuple[str, str]]) -> None:
    made = table(("one", "none", "two"), [(a, "", b) for a, b in rows], right=("two",))
    read = Read(made)
    used = [k for k in (0, 1) if any(row[k] for row in rows)]
    assert read.text == "".join(("one", "two")[k] for k in used) + "".join(
        row[k] for row in rows for k in used
    )
    assert read.tags.count("tr") == len(rows) + 1


def test_what_is_markup_stays_markup() -> None:
    assert element("p", Html("<i>a</i>"), "<i>") == "<p><i>a</i>&lt;i&gt;</p>"
    assert element("a", "b", class_="c", aria_label="d") == '<a class="c" aria-label="d">b</a>'
    assert "width:0.0%" in bar(-1) and "width:100.0%" in bar(3)


@given(printable)
def test_nothing_in_a_figure_ends_its_script(text: str) -> None:
    figure = {"data": [], "layout": {"title": text + "</script><!--"}}
    made = Chart("c", text, figure, text).html()
    inside = made.split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in inside
    assert json.loads(inside) == figure
    assert Read(made).tags == ["figure", "h3", "div", "script", "figcaption"]


def test_a_figure_holds_no_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Chart("c", "", {"x": [math.nan]}, "").html()


def test_plotly_reads_no_markup_in_a_name() -> None:
    assert lines("<b>x</b>", "a & b") == "&lt;b&gt;x&lt;/b&gt;<br>a &amp; b"


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=5))
def test_a_logarithmic_axis_has_marks_about_all_values(values: list[float]) -> None:
    made = log_axis("x", values)
    ticks = made["tickvals"]
    assert ticks[0] <= min(values) * 1.000001 and max(values) <= ticks[-1] * 1.000001
    assert all(a < b for a, b in pairwise(ticks))
    assert [float(text.replace(",", "")) for text in made["ticktext"]] == pytest.approx(ticks)


def test_a_ramp_goes_from_end_to_end() -> None:
    assert [ramp(3, k) for k in range(3)] == ["var(--ramp-0)", "var(--ramp-4)", "var(--ramp-7)"]
    assert ramp(1, 0) == "var(--ramp-0)"


def test_figures_are_what_plotly_knows() -> None:
    from plotly.graph_objects import Figure

    shape, words = across(1.0, "limit")
    other, more = upright(2.0, "asked")
    made = layout(axis("a"), log_axis("b", [1, 9]), shapes=[shape, other], annotations=[words, more])
    Figure(without_names({"data": [], "layout": made}))
    with pytest.raises(ValueError, match="titel"):
        Figure(without_names({"data": [], "layout": layout({"titel": "a"}, axis("b"))}))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("66 offers: no profile on this device; measure on one", "no profile on this device"),
        ("1 offer: no profile on this device", "no profile on this device"),
        ("holds the SLO at no rate: p99 of an unloaded replica is 3 ms", "holds the SLO at no rate"),
        ("dominated: batch 4 has no more throughput than batch 2", "dominated"),
        ("it has 4.0 GiB, a replica needs 5.1 GiB", "it has … GiB, a replica needs … GiB"),
        ("128", "…"),
    ],
)
def test_reasons_are_grouped_without_their_figures(reason: str, expected: str) -> None:
    assert gist(reason) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/models/net.onnx", "…/net.onnx"),
        ("read /tmp/a b and /var/x/y.csv: wrong", "read …/a b and …/y.csv: wrong"),
        (r"C:\Users\me\net.onnx is here", "…/net.onnx is here"),
        ("pkg/providers/prices.go at 12", "pkg/providers/prices.go at 12"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("../plan.yaml, 5 req/s, aws/g6.xlarge/us-east-1", "../plan.yaml, 5 req/s, aws/g6.xlarge/us-east-1"),
        ({"a": ["/b/c", 1, None]}, {"a": ["…/c", 1, None]}),
    ],
)
def test_absolute_paths_lose_their_folders(text: object, expected: object) -> None:
    assert without_folders(text) == expected


def test_numbers_as_people_read_them() -> None:
    assert [number(v) for v in (0.00012345, 12.3456, 12345.6, 0, math.inf)] == [
        "0.0001234",
        "12.35",
        "12,346",
        "0",
        "∞",
    ]
    assert [milliseconds(v) for v in (0.5, 36.14, 1234.5)] == ["0.5 ms", "36.1 ms", "1,234 ms"]
    assert [percent(v) for v in (0, 0.005, 0.1, 0.956)] == ["0%", "0.5%", "10%", "96%"]
    assert [format_change(v, 2.0) for v in (3.0, 1.9, 2.0009)] == ["+50.0%", "-5.0%", "the same"]
