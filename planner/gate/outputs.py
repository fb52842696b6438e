"""A gate's outcome for pull requests (Markdown), for CI servers (JUnit, GitHub's annotations) and as JSON.

Sources: https://github.com/testmoapp/junitxml; https://docs.github.com/actions, "Workflow commands".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from xml.etree import ElementTree

from planner.gate.diff import Diff
from planner.gate.gate import Gated
from planner.gate.outcome import Outcome
from planner.units import format_usd

# 1: first format
GATE_SCHEMA = 1
_MARKS = {"pass": "✅", "warn": "⚠️", "fail": "❌"}


def markdown(gated: Gated) -> str:
    """A summary to read in a pull request."""
    violated, warned = len(gated.violated), len(gated.warned)
    verdict = f"{violated} rule(s) violated" if violated else "passed"
    more = f", {warned} warning(s)" if warned else ""
    lines = [f"## Deployment plan: {verdict}{more}", ""]
    lines += ["| | rule | what was found |", "|---|---|---|"]
    for outcome in gated.outcomes:
        mark = _MARKS[gated.policy.weight(outcome)]
        lines.append(f"| {mark} | {_cell(outcome.name)} | {outcome.verdict}: {_cell(outcome.words)} |")
    if gated.changes is not None:
        lines += ["", *_changes(gated.changes)]
    return "\n".join(lines) + "\n"


def _changes(found: Diff) -> Iterator[str]:
    was, now = found.before_usd_per_hour, found.after_usd_per_hour
    yield f"**Cost:** {format_usd(was)}/h, now {format_usd(now)}/h ({now / was - 1:+.1%})"
    due = [s for s in found.shares if s.usd_per_hour]
    if due:
        told = ", ".join(f"{s.due_to} {s.usd_per_hour:+.4g}" for s in due)
        yield f"<br>of that, USD/h: {_cell(told)}"
    if not found.changes:
        yield from ("", "Nothing else changed.")
        return
    yield from ("", f"<details><summary>{len(found.changes)} change(s)</summary>", "")
    yield from ("| | what | before | now | USD/h |", "|---|---|---|---|--:|")
    for c in found.changes:
        usd = "" if c.usd_per_hour is None else f"{c.usd_per_hour:+.4g}"
        yield f"| {c.kind} | {_cell(c.subject)} | {_cell(c.before)} | {_cell(c.after)} | {usd} |"
    yield from ("", "</details>")


def _cell(text: str) -> str:
    """Text that ends no cell and is no markup."""
    for of, become in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(of, become)
    return text


def junit(gated: Gated) -> str:
    """A test case for each outcome. Warnings are skipped cases, for there is no other word for them."""
    suite = ElementTree.Element(
        "testsuite",
        name="planner gate",
        tests=str(len(gated.outcomes)),
        failures=str(len(gated.violated)),
        errors="0",
        skipped=str(len(gated.warned)),
    )
    for outcome in gated.outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"planner.gate.{outcome.rule.replace(' ', '_')}", name=outcome.name
        )
        weight = gated.policy.weight(outcome)
        if weight == "fail":
            ElementTree.SubElement(case, "failure", message=outcome.words, type=outcome.verdict)
        elif weight == "warn":
            ElementTree.SubElement(case, "skipped", message=f"{outcome.verdict}: {outcome.words}")
        else:
            ElementTree.SubElement(case, "system-out").text = f"{outcome.verdict}: {outcome.words}"
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def github_annotations(gated: Gated) -> str:
    """GitHub's workflow commands, one a line: errors, then warnings."""
    lines = [_annotation("error", outcome) for outcome in gated.violated]
    lines += [_annotation("warning", outcome) for outcome in gated.warned]
    return "".join(f"{line}\n" for line in lines)


def _annotation(kind: str, outcome: Outcome) -> str:
    title = _escaped(f"planner gate, {outcome.name}").replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={title}::{_escaped(f'{outcome.verdict}: {outcome.words}')}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def dump_gate(gated: Gated) -> str:
    content = {
        "schema_version": GATE_SCHEMA,
        "passed": not gated.violated,
        "outcomes": [{**asdict(o), "weight": gated.policy.weight(o)} for o in gated.outcomes],
        "policy": gated.policy.model_dump(),
        "changes": None if gated.changes is None else asdict(gated.changes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
