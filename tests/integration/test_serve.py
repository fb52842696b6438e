"""`planner serve` on a real plan, with Triton's client and with many clients at once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import psutil
import pytest
import tritonclient.http as triton
from plan_files import planner, tiny_plan, write_plan
from served_plans import Served, served, soak
from tritonclient.utils import InferenceServerException

from planner.errors import InputError
from planner.profiling.environment import usable_cores
from planner.serving.local import local_part

if TYPE_CHECKING:
    from onnx_models import LabelledModel

MODEL = "model"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, tiny_model: LabelledModel) -> Path:
    """The folder with plan.json: one replica an instance, in batches of up to 4."""
    folder = tmp_path_factory.mktemp("planned")
    content = tiny_plan(tiny_model)
    run = planner("plan", write_plan(folder / "plan.yaml", content, batch_sizes=[1, 4]))
    assert run.returncode == 0, run.stderr
    return folder / "plan"


@pytest.fixture(scope="module")
def service(planned: Path) -> Iterator[Served]:
    with served(planned, "--max-body", "100000") as running:
        yield running


@pytest.fixture
def client(service: Served) -> Iterator[Any]:
    made = triton.InferenceServerClient(service.url.removeprefix("http://"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def rows(planned: Path, tiny_model: LabelledModel) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and what the plan's engine says to them."""
    with np.load(tiny_model.evaluation) as data:
        x = data["x"]
    report = json.loads((planned / "plan.json").read_text())
    session = onnxruntime.InferenceSession(
        str(planned / report["engines"][0]["path"]), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"x": x})
    return x, logits


def given(x: np.ndarray, binary: bool = True, datatype: str = "FP32") -> Any:
    asked = triton.InferInput("x", list(x.shape), datatype)
    asked.set_data_from_numpy(x, binary_data=binary)
    return asked


def test_it_describes_itself_as_triton_s_client_expects(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    told = client.get_model_metadata(MODEL)
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]
    assert told["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 4]}]
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_answers_are_the_engine_s(
    client: Any, rows: tuple[np.ndarray, np.ndarray], binary_in: bool, binary_out: bool
) -> None:
    x, logits = rows
    asked = triton.InferRequestedOutput("logits", binary_data=binary_out)
    answer = client.infer(MODEL, [given(x[:1], binary_in)], outputs=[asked], request_id="seven")
    assert answer.get_response()["id"] == "seven"
    np.testing.assert_allclose(answer.as_numpy("logits"), logits[:1], atol=1e-5)
    by_default = client.infer(MODEL, [given(x[1:2], binary_in)])
    np.testing.assert_allclose(by_default.as_numpy("logits"), logits[1:2], atol=1e-5)


def test_wrong_requests_get_errors_that_triton_s_client_understands(
    client: Any, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    x, _ = rows
    wrong = [
        (given(x[:1, :3]), "takes"),
        (given(x[0]), "takes"),
        (given(x[:1].astype(np.float64), datatype="FP64"), "takes FP32"),
        (given(np.repeat(x[:1], 100, axis=0)), "inferences, got 100"),
        (given(np.zeros((2000, 16), np.float32)), "body may have"),
    ]
    for asked, why in wrong:
        with pytest.raises(InferenceServerException, match=why):
            client.infer(MODEL, [asked])
    with pytest.raises(InferenceServerException, match="no model 'other'"):
        client.infer("other", [given(x[:1])])
    with pytest.raises(InferenceServerException, match="gzip"):
        client.infer(MODEL, [given(x[:1])], request_compression_algorithm="gzip")
    assert client.infer(MODEL, [given(x[:1])]).as_numpy("logits").shape == (1, 4)


def test_many_clients_with_malformed_requests_among_them(
    service: Served, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    x, logits = rows
    asyncio.run(soak(service, MODEL, x, logits, clients=40, seconds=1.0))
    before = service.memory_bytes()
    found = asyncio.run(soak(service, MODEL, x, logits, clients=40, seconds=3.0))
    assert found.wrong == []
    assert found.right > 40 and found.refused > 10
    assert service.memory_bytes() < before * 1.2 + (16 << 20)
    with urllib.request.urlopen(f"{service.url}/metrics") as answer:
        metrics = answer.read().decode()
    assert f'planner_requests_total{{model="{MODEL}",status="200"}}' in metrics


def test_an_engine_that_is_killed_comes_back(
    service: Served, client: Any, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    x, logits = rows
    for engine in psutil.Process(service.process.pid).children():
        engine.kill()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = client.infer(MODEL, [given(x[:1])])
        except InferenceServerException as error:
            assert "died" in str(error) or "no engine" in str(error)
            time.sleep(0.05)
            continue
        np.testing.assert_allclose(answer.as_numpy("logits"), logits[:1], atol=1e-5)
        if client.is_server_ready():
            return
    raise AssertionError("it did not come back")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_drains(planned: Path, rows: tuple[np.ndarray, np.ndarray], sign: int) -> None:
    x, logits = rows
    with served(planned) as running:
        engines = psutil.Process(running.process.pid).children()
        for engine in engines:
            engine.suspend()  # so that requests wait
        answers: list[np.ndarray] = []

        def ask(row: int) -> None:
            with triton.InferenceServerClient(
                running.url.removeprefix("http://"), network_timeout=60
            ) as client:
                answers.append(
                    client.infer(MODEL, [given(x[row : row + 1])]).as_numpy("logits") - logits[row]
                )

        asking = [threading.Thread(target=ask, args=(row,)) for row in range(3)]
        for thread in asking:
            thread.start()
        _until(lambda: _metric(running, "planner_waiting") + len(engines) >= 3)
        late = triton.InferenceServerClient(running.url.removeprefix("http://"))
        assert late.is_server_ready()
        running.process.send_signal(sign)
        _until(lambda: not late.is_server_ready())
        with pytest.raises(InferenceServerException, match="shutting down"):
            late.infer(MODEL, [given(x[:1])])
        late.close()
        for engine in engines:
            engine.resume()
        assert running.process.wait(60) == 0
        for thread in asking:
            thread.join(60)
        assert len(answers) == 3
        assert max(np.abs(difference).max() for difference in answers) < 1e-4
        assert not any(engine.is_running() for engine in engines)


def _metric(running: Served, name: str) -> float:
    with urllib.request.urlopen(f"{running.url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}{{")).split()[-1])


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def test_the_part_of_a_plan_that_fits(planned: Path) -> None:
    report = json.loads((planned / "plan.json").read_text())
    (placement,) = report["fleet"]["placements"]
    (traffic,) = placement["traffic"]
    (offer,) = (o for o in report["offers"] if o["id"] == placement["offer_id"])
    one = local_part(planned, cores=1)
    (model,) = one.models
    assert model.replicas == 1
    assert model.planned == traffic["replicas_per_instance"] * placement["instances"]
    assert model.usd_per_hour == pytest.approx(offer["usd_per_hour"] / traffic["replicas_per_instance"])
    every = local_part(planned, cores=10_000)
    assert every.models[0].replicas == traffic["replicas_per_instance"]
    with pytest.raises(InputError, match="no workload other"):
        local_part(planned, 1, "other")
    with pytest.raises(InputError, match="needs 1 cores, there are 0"):
        local_part(planned, cores=0)


def test_what_cannot_be_served_is_said_in_a_line(planned: Path, service: Served, tmp_path: Path) -> None:
    taken = planner("serve", planned, "--port", str(service.address[1]))
    assert taken.returncode == 2
    assert taken.stderr.count("\n") == 1 and "--port" in taken.stderr
    assert planner("serve", tmp_path).returncode == 2


def test_without_its_packages_it_names_the_extra(planned: Path) -> None:
    # A finder that knows of no uvicorn, before all others.
    without = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('uvicorn', 'starlette'):\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from planner.cli import main\n"
        f"sys.argv = ['planner', 'serve', {str(planned)!r}]\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60)
    assert run.returncode == 4
    assert run.stderr.count("\n") == 1 and "planner[serve]" in run.stderr


def test_it_says_which_part_runs_here_and_stops_at_once_when_told(planned: Path) -> None:
    report = json.loads((planned / "plan.json").read_text())
    (placement,) = report["fleet"]["placements"]
    (traffic,) = placement["traffic"]
    replicas = traffic["replicas_per_instance"]
    with served(planned) as running:
        here, total = min(replicas, usable_cores()), replicas * placement["instances"]
        assert f"{MODEL}: {here} of the plan's {total} replicas" in running.said
        assert max(map(len, running.said.splitlines())) <= 100
        assert running.stop() == 0


@pytest.mark.skipif(find_spec("mlperf_loadgen") is None, reason="MLPerf LoadGen is not installed")
def test_verify_drives_the_plan_s_own_engines(planned: Path) -> None:
    run = planner("verify", planned, "--live", "--seconds", "2", "--json")
    assert run.returncode in (0, 1), run.stderr
    (seen,) = json.loads(run.stdout)["observed"]
    assert seen["asked_rps"] == _planned_rate(planned)
    # Poisson: 100 requests or more, so both are known to some tenths.
    assert seen["requests"] >= 80
    assert 0.5 < seen["rate_rps"] / seen["asked_rps"] < 2
    assert 0.6 < seen["arrival_cv"] < 1.5
    assert 0 < seen["overhead_ms"] < seen["predicted_ms"]
    assert seen["measured_low_ms"] <= seen["measured_ms"] <= seen["measured_high_ms"]
    assert seen["mean_batch_size"] >= 1 and seen["service_ratio"] > 0
    assert seen["planned_capacity_rps"] > seen["asked_rps"]
    assert seen["highest_rps"] is None


@pytest.mark.skipif(find_spec("mlperf_loadgen") is None, reason="MLPerf LoadGen is not installed")
def test_verify_drives_a_deployed_service(planned: Path, service: Served) -> None:
    run = planner("verify", planned, "--endpoint", service.url, "--seconds", "2", "--json")
    assert run.returncode in (0, 1), run.stderr
    (seen,) = json.loads(run.stdout)["observed"]
    assert seen["requests"] >= 80
    assert seen["service_ratio"] is None and seen["mean_batch_size"] is None
    assert 0.5 < seen["rate_rps"] / seen["asked_rps"] < 2
    nobody = planner("verify", planned, "--endpoint", "http://127.0.0.1:1", "--seconds", "2")
    assert nobody.returncode == 2
    assert nobody.stderr.count("\n") == 1 and "cannot be reached" in nobody.stderr


def _planned_rate(planned: Path) -> float:
    report = json.loads((planned / "plan.json").read_text())
    (placement,) = report["fleet"]["placements"]
    return float(placement["traffic"][0]["replica_rps"])
