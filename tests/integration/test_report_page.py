"""report.html in a real browser: drawn, readable wide and narrow, light and dark, and asking for nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import chromium
import page_plans
import pytest
from plan_files import invoke

WIDE, NARROW = 1280, 400
LOOKS = [(WIDE, False), (WIDE, True), (NARROW, False), (NARROW, True)]

CONTRASTS = """
(() => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      const found = numbers(colour);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const worst = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.closest("script, style")) continue;
    const style = getComputedStyle(element);
    const svg = element instanceof SVGElement;
    if (svg && style.opacity === "0") continue;
    const [a, b] = [light(numbers(svg ? style.fill : style.color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    worst.push([contrast, parseFloat(style.fontSize), node.textContent.trim().slice(0, 40)]);
  }
  return worst;
})()
"""
"""Of every visible text: its contrast to what is behind it (WCAG 2.2, 1.4.3), and its size in pixels."""

CHARTS = """
[...document.querySelectorAll(".chart")].map((c) => [
  c.id, c.querySelectorAll(".trace path, .trace .point, .bars path").length,
  c.getBoundingClientRect().width, c.querySelector(".main-svg")?.getBoundingClientRect().width ?? 0])
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workloads, two periods."""
    folder = page_plans.plan_several(tmp_path_factory.mktemp("several"))
    done = invoke("report", folder, "--seconds", "20")
    assert done.exit_code == 0, done.stderr
    return folder / "report.html"


@pytest.fixture(scope="module")
def tab(page: Path) -> Iterator[chromium.Tab]:
    program = chromium.browser()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.tab(program) as made:
        made.open(page, WIDE)
        yield made


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_it_is_drawn_and_readable(
    tab: chromium.Tab, page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    tab.open(page, width, dark=dark)
    assert tab.value("document.documentElement.dataset.drawn") == "yes"
    assert tab.errors == []
    asked = {url for url in tab.requests if not url.startswith("data:")}
    assert asked == {page.resolve().as_uri()}
    assert tab.value("document.documentElement.scrollWidth") <= width, "the page itself scrolls sideways"
    tab.value("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    assert tab.value("document.documentElement.scrollWidth") <= width, "with everything unfolded it does"
    charts = tab.value(CHARTS)
    assert len(charts) >= 10
    for name, marks, room, drawn in charts:
        assert marks > 0, f"{name} is empty"
        assert 0 < drawn <= room + 1 and room > 0.5 * min(width, 800) - 80, f"{name} does not fit"
    texts = tab.value(CONTRASTS)
    assert len(texts) > 300
    for contrast, size, text in texts:
        assert contrast >= 4.5, f"{text!r} is hard to read: {contrast:.2f}"
        assert size >= 10, f"{text!r} is small: {size} px"
    background = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 200) == dark
    taken = tab.screenshot(tmp_path / "page.png")
    assert taken[:8] == b"\x89PNG\r\n\x1a\n"
    wide, high = struct.unpack(">II", taken[16:24])
    assert wide == width and high > 2000


def test_rows_become_lists_where_it_is_narrow(tab: chromium.Tab, page: Path) -> None:
    shown = "getComputedStyle(document.querySelector('#buy thead')).display"
    tab.open(page, NARROW)
    assert tab.value(shown) == "none"
    tab.look(WIDE, 900, dark=False)
    assert tab.value(shown) != "none"


def test_charts_follow_light_and_dark_while_they_are_open(tab: chromium.Tab, page: Path) -> None:
    tab.open(page, WIDE)
    ink = "getComputedStyle(document.querySelector('#front-0 .xtick text')).fill"
    light = tab.value(ink)
    tab.look(WIDE, 900, dark=True)
    changed = f"""new Promise((done) => {{
      const end = Date.now() + 60000;
      const look = () => ({ink} !== {light!r} || Date.now() > end ? done({ink}) : setTimeout(look, 50));
      look(); }})"""
    assert tab.value(changed) != light


def test_a_pointer_over_a_mark_is_told_which_it_is(tab: chromium.Tab, page: Path) -> None:
    tab.open(page, WIDE)
    at = tab.value(
        """(() => {
          const chart = document.getElementById("front-0");
          chart.scrollIntoView({ block: "center", behavior: "instant" });
          const box = chart.querySelector(".trace .point").getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2]; })()"""
    )
    for x in (at[0] - 3, at[0]):
        tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=at[1])
    told = tab.value(
        """new Promise((done) => {
          const end = Date.now() + 60000;
          const look = () => {
            const text = document.querySelector("#front-0 .hoverlayer")?.textContent ?? "";
            return text || Date.now() > end ? done(text) : setTimeout(look, 50);
          };
          look(); })"""
    )
    assert "batch ≤" in told and "per million" in told and "published percentiles" in told


def test_a_browser_that_cannot_unpack_says_so(tab: chromium.Tab, page: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.html"
    text = page.read_text(encoding="utf-8")
    old.write_text(text.replace("new DecompressionStream", "new NothingOfTheKind"), encoding="utf-8")
    tab.open(old, WIDE)
    assert tab.value("document.documentElement.dataset.drawn") == "no"
    assert "cannot draw the charts" in tab.value("document.querySelector('.chart').textContent")
    assert any("NothingOfTheKind" in error for error in tab.errors)
