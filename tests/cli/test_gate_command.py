"""Gates and differences as a user, or a CI server, has them made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from gated_plans import SHEET, SLOWER, plan_in
from plan_files import planner

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "ci"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a repository: plan.yaml, its profiles, a policy, and the present plan in ``plan``."""
    folder = tmp_path_factory.mktemp("made") / "repository"
    plan_in(folder)
    shutil.copyfile(EXAMPLES / "policy.yaml", folder / "policy.yaml")
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "repository"))


def run_as(ci: str, repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script of a template, as its server's runner runs it: by bash, ending with the first failure."""
    content = yaml.safe_load((EXAMPLES / f"{ci}.yml").read_text())
    if ci == "github":
        steps = content["jobs"]["gate"]["steps"]
        (script,) = [step["run"] for step in steps if step.get("name") == "Gate"]
    else:
        script = "\n".join(content["plan-gate"]["script"])
    commands = f'planner() {{ "{sys.executable}" -m planner "$@"; }}\n{script}'
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "GITLAB_"))}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", commands],
        cwd=repository,
        env=ours | {"CI": "true"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def cases(path: Path) -> dict[str, Any]:
    suite = ElementTree.parse(path).getroot().find("testsuite")
    assert suite is not None
    found = {case.get("name", ""): case for case in suite.findall("testcase")}
    assert int(suite.get("tests", "")) == len(found)
    assert int(suite.get("failures", "")) == sum(c.find("failure") is not None for c in found.values())
    return found


def test_in_github_actions_an_unchanged_plan_passes(repository: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# An earlier step\n")
    run = run_as("github", repository, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert run.returncode == 0, run.stderr
    assert "::error" not in run.stderr
    assert summary.read_text().startswith("# An earlier step\n## Deployment plan: passed")
    assert (repository / "plan" / "gate" / "plan.json").exists()
    assert all(case.find("failure") is None for case in cases(repository / "gate.xml").values())


def test_in_github_actions_a_violated_rule_is_an_annotation_and_exit_code_1(
    repository: Path, tmp_path: Path
) -> None:
    # A limit that no fleet can keep.
    plan = yaml.safe_load((repository / "plan.yaml").read_text())
    plan["workload"]["rate_rps"] = 40000
    (repository / "plan.yaml").write_text(yaml.safe_dump(plan))
    summary = tmp_path / "summary.md"
    run = run_as("github", repository, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert run.returncode == 1, run.stderr
    assert "::error title=planner gate%2C cost::failed: " in run.stderr
    assert "1 rule(s) violated" in summary.read_text()
    assert "plan.yaml" in summary.read_text()
    assert cases(repository / "gate.xml")["cost"].find("failure") is not None


def test_in_gitlab_ci_what_is_slower_is_not_judged_without_engines(repository: Path) -> None:
    (repository / "sheet.csv").write_text(SLOWER)
    run = run_as("gitlab", repository, GITLAB_CI="true")
    assert run.returncode == 0, run.stderr
    assert "::" not in run.stderr
    found = cases(repository / "gate.xml")
    assert found["cost"].find("skipped") is not None
    assert "cannot tell" in (repository / "gate.md").read_text()
    (repository / "policy.yaml").write_text("cannot_tell: fail\n")
    assert run_as("gitlab", repository, GITLAB_CI="true").returncode == 1


def test_no_feasible_plan_is_a_violated_rule(repository: Path) -> None:
    (repository / "sheet.csv").write_text(SHEET.replace(",4,4,4.1,4.2,", ",99,99,99,99,").replace("12", "99"))
    plan = yaml.safe_load((repository / "plan.yaml").read_text())
    plan["workload"]["slo"]["latency"] = "1ms"
    (repository / "plan.yaml").write_text(yaml.safe_dump(plan))
    run = planner("gate", repository / "plan.yaml", "--baseline", repository / "plan", "--json")
    assert run.returncode == 1, run.stderr
    (outcome,) = json.loads(run.stdout)["outcomes"]
    assert (outcome["rule"], outcome["verdict"], outcome["weight"]) == ("plan", "failed", "fail")


def test_the_baseline_is_never_replaced(repository: Path) -> None:
    before = (repository / "plan" / "plan.json").read_bytes()
    arguments = ("gate", repository / "plan.yaml", "--baseline", repository / "plan")
    run = planner(*arguments, "--output", repository / "plan")
    assert (run.returncode, "choose another folder" in run.stderr) == (2, True)
    assert planner(*arguments).returncode == 0
    assert (repository / "plan" / "plan.json").read_bytes() == before


def test_a_wrong_policy_is_exit_code_2(repository: Path) -> None:
    (repository / "policy.yaml").write_text("max_costs: 5%\n")
    arguments = ("--baseline", repository / "plan", "--policy", repository / "policy.yaml")
    run = planner("gate", repository / "plan.yaml", *arguments)
    assert (run.returncode, "max_costs: unknown key" in run.stderr) == (2, True)


def test_diff_tells_what_changed_and_what_it_costs(repository: Path) -> None:
    (repository / "sheet.csv").write_text(SLOWER)
    assert planner("plan", repository / "plan.yaml", "--output", repository / "other").returncode == 0
    run = planner("diff", repository / "plan", repository / "other" / "plan.json", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["after_usd_per_hour"] > found["before_usd_per_hour"]
    shown = planner("diff", repository / "plan", repository / "other")
    assert "capacities and candidates" in shown.stdout
    missing = planner("diff", repository / "plan", repository / "nothing.json")
    assert (missing.returncode, "cannot be read" in missing.stderr) == (2, True)


def test_the_example_s_policy_names_every_default() -> None:
    from planner.gate import read_policy

    content = yaml.safe_load((EXAMPLES / "policy.yaml").read_text())
    assert set(content) == set(type(read_policy(None)).model_fields)
    assert read_policy(EXAMPLES / "policy.yaml") == read_policy(None)
