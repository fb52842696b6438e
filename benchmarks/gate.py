"""How often a gate raises a false alarm, and what it misses.

    python benchmarks/gate.py [UNCHANGED [DAMAGED [SLOWER]]]     # 30, 10 and 10 runs by default

A generated classifier is planned with measurements of its own, and that plan is the baseline. Then each run
makes a plan anew, with an empty profile store, so that all of it is measured again, noise and all, and gates
it:

unchanged   the same model; engines are measured side by side though they are the same file, which a gate by
            itself would not do
damaged     every weight perturbed by a fifth of its layer's standard deviation, differently in each run
slower      hidden layers that are wider by so much that the model has 20 % more multiplications, and computes
            the same

A run of *unchanged* must pass, one of the others fail, by the rule that is for it. Exit code 1 where one does
not.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

import yaml  # noqa: E402
from changed_models import damaged, slower  # noqa: E402
from onnx_models import LabelledModel, mlp  # noqa: E402

from planner import pipeline  # noqa: E402
from planner.gate import Gated, gate, read_policy  # noqa: E402

NOISE, SHARE = 0.2, 0.2
RULE = {"unchanged": "", "damaged": "accuracy", "slower": "latency"}


def write_plan(folder: Path, model: Path, data: LabelledModel) -> Path:
    folder.mkdir(parents=True)
    content = {
        "model": str(model),
        "dimensions": {"N": "batch"},
        "data": {"calibration": str(data.calibration), "evaluation": str(data.evaluation)},
        "accuracy": {"metric": "accuracy", "max_drop": "5%"},
        "workload": {"name": "mlp", "rate_rps": 300000, "slo": {"percentile": 90, "latency": "100ms"}},
        "recipes": ["fp32", "int8"],
        "batch_sizes": [1, 8],
        "threads": [1],
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def gated(kind: str, number: int, folder: Path, data: LabelledModel, baseline: Path) -> Gated:
    here = folder / f"{kind}-{number}"
    model = data.model
    if kind == "damaged":
        model = damaged(data.model, folder / "damaged.onnx", NOISE, seed=number)
    elif kind == "slower":
        model = slower(data.model, folder / "slower.onnx", SHARE)
    fleet = pipeline.load_spec(write_plan(here, model, data))
    if kind == "unchanged":
        # Variants and their accuracy would come out the same; what has noise is measured anew.
        for name in ("variants", "quality"):
            shutil.copytree(baseline / name, fleet.output / name)
    found = gate(fleet, baseline, read_policy(None), measure_identical=True)
    shutil.rmtree(here)
    return found


def main() -> None:
    counts = [int(text) for text in sys.argv[1:4]]
    asked = dict(zip(RULE, [*counts, *(30, 10, 10)[len(counts) :]], strict=True))
    right = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = mlp(folder / "model.onnx", features=256, hidden=768, layers=3, evaluation_samples=1000)
        fleet = pipeline.load_spec(write_plan(folder / "baseline", data.model, data))
        report = pipeline.publish(pipeline.plan(fleet), fleet)
        used = sorted({t.candidate_id for p in report.fleet.placements for t in p.traffic})
        print(f"baseline: {', '.join(used)}, ${report.fleet.cost.usd_per_hour:.4f}/h", flush=True)
        for kind, rule in RULE.items():
            failed: Counter[str] = Counter()
            as_expected = 0
            for number in range(asked[kind]):
                start = time.monotonic()
                found = gated(kind, number, folder, data, fleet.output)
                rules = {outcome.rule for outcome in found.violated}
                failed.update(rules)
                fine = rule in rules if rule else not rules
                as_expected += fine
                told = [o.words for o in found.outcomes if o.rule == (rule or "latency")]
                seconds = time.monotonic() - start
                print(f"  {kind} {number + 1}: {'; '.join(told)} [{seconds:.0f} s]", flush=True)
                if not fine:
                    print("   ", *(f"{o.name}: {o.words}" for o in found.outcomes), sep="\n    ", flush=True)
            by_rule = ", ".join(f"{name} {times}" for name, times in sorted(failed.items())) or "none"
            what = "passed" if not rule else "caught"
            print(
                f"{kind:<10} {as_expected} of {asked[kind]} {what}; rules that failed: {by_rule}", flush=True
            )
            right &= as_expected == asked[kind]
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
