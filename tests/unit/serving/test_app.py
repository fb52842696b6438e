"""The endpoint with a scripted engine: answers, and the protocol's errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from exported_plans import blank
from prometheus_client.parser import text_string_to_metric_families
from scripted_engines import DEADLY, POISON, Doubling, local_model
from starlette.testclient import TestClient

from planner.errors import BackendError
from planner.serving.app import application
from planner.serving.batcher import Instance
from planner.serving.local import LocalModel
from planner.serving.metrics import Rate, price
from planner.serving.protocol import HEADER_LENGTH
from planner.serving.service import Service

MAX_BODY = 4096
INFER = "/v2/models/double/infer"


class Endpoint:
    def __init__(self, max_waiting: int = 8) -> None:
        self.engine = Doubling()
        left: list[Instance] = [self.engine]

        def start(model: LocalModel) -> Instance:
            if not left:
                raise BackendError("there is no further engine")
            return left.pop()

        self.service = Service((local_model(blank),), max_waiting, start)
        self.client = TestClient(application(self.service, MAX_BODY), raise_server_exceptions=False)

    def post(self, content: Any, path: str = INFER, **headers: str) -> tuple[int, Any]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer = self.client.post(path, content=body, headers=headers)
        return answer.status_code, answer.json()

    def metric(self, name: str, **labels: str) -> float:
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        raise AssertionError(f"no metric {name} {labels}")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.engine.kill()
    made.service.close()


def tensor(data: Any = (1.0, 2.0), **changes: Any) -> dict[str, Any]:
    made = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": data} | changes
    return {"inputs": [{key: value for key, value in made.items() if value is not None}]}


def test_json_in_json_out(endpoint: Endpoint) -> None:
    status, answer = endpoint.post(tensor([[1, 2], [3, 4]], shape=[2, 2]) | {"id": "seven"})
    assert status == 200
    assert answer == {
        "model_name": "double",
        "model_version": "1",
        "id": "seven",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2, 4, 6, 8]}],
    }


def test_raw_in_raw_out(endpoint: Endpoint) -> None:
    raw = np.array([1, 2], "<f4").tobytes()
    asked = tensor(data=None, parameters={"binary_data_size": len(raw)})
    head = json.dumps(asked | {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    answer = endpoint.client.post(INFER, content=head + raw, headers={HEADER_LENGTH: str(len(head))})
    length = int(answer.headers[HEADER_LENGTH])
    (output,) = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == 8
    assert np.frombuffer(answer.content[length:], "<f4").tolist() == [2, 4]


def test_it_tells_what_it_is(endpoint: Endpoint) -> None:
    get = endpoint.client.get
    assert get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/double", "/v2/models/double/versions/1"):
        told = get(path).json()
        assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
        assert get(f"{path}/ready").json() == {"name": "double", "ready": True}


RAW = {"binary_data_size": 8}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 4000, "nested too deeply"),
        (b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [NaN, 1]}]}', "NaN"),
        ([], "JSON object"),
        ({}, "inputs must be a list"),
        ({"inputs": []}, "inputs must be a list"),
        ({"inputs": [1]}, "object with a name"),
        ({"inputs": [{"name": ["x"]}]}, "object with a name"),
        (tensor(name="z"), "no input 'z'; it has x"),
        ({"inputs": tensor()["inputs"] * 2}, "there twice"),
        (tensor(datatype="INT32"), "takes FP32, got 'INT32'"),
        (tensor(datatype=None), "takes FP32, got None"),
        (tensor(datatype={}), "takes FP32"),
        (tensor(shape=[2]), r"takes \[-1, 2\], got \[2\]"),
        (tensor(shape=[1, 3]), r"takes \[-1, 2\], got \[1, 3\]"),
        (tensor(shape=[1, "2"]), "takes"),
        (tensor(shape=[1, 2.0]), "takes"),
        (tensor(shape=[True, 2]), "takes"),
        (tensor(shape=[-1, 2]), "takes"),
        (tensor(shape=None), "takes"),
        (tensor(shape=[0, 2], data=[]), "1 to 4 inferences, got 0"),
        (tensor(shape=[5, 2], data=[0] * 10), "1 to 4 inferences, got 5"),
        (tensor(data=[1]), "holds 2 elements, data 1"),
        (tensor(data="no"), "must be a list"),
        (tensor(data=["a", "b"]), "not FP32"),
        (tensor(data=None), "must be a list"),
        (tensor(parameters=RAW), "0 bytes are left"),
        (tensor(parameters={"binary_data_size": -1}, data=None), "bytes are left"),
        (tensor(parameters={"binary_data_size": "8"}, data=None), "bytes are left"),
        (tensor(parameters=[]), "parameters must be an object"),
        (tensor() | {"parameters": 3}, "parameters must be an object"),
        (tensor() | {"outputs": [{"name": "z"}]}, "no output 'z'"),
        (tensor() | {"outputs": "y"}, "outputs must be a list"),
        (tensor() | {"outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "classification"),
        (tensor() | {"id": 7}, "id must be a string"),
        (tensor([POISON, 1]), "the engine refuses these inputs: it does not like"),
    ],
)
def test_wrong_requests_get_the_protocol_s_error(endpoint: Endpoint, content: Any, why: str) -> None:
    import re

    status, answer = endpoint.post(content)
    assert status == 400
    assert list(answer) == ["error"]
    assert re.search(why, answer["error"]), answer
    assert endpoint.post(tensor())[0] == 200


@pytest.mark.parametrize("length", ["x", "-1", "999999", "", "1" * 30, "²"])
def test_a_wrong_header_length_is_refused(endpoint: Endpoint, length: str) -> None:
    headers = [(HEADER_LENGTH.encode(), length.encode())]
    answer = endpoint.client.post(INFER, content=json.dumps(tensor()).encode(), headers=headers)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_bytes_that_belong_to_no_input_are_refused(endpoint: Endpoint) -> None:
    head = json.dumps(tensor()).encode()
    status, answer = endpoint.post(head + b"abc", **{HEADER_LENGTH: str(len(head))})
    assert (status, answer["error"]) == (400, "3 bytes follow the last input")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/double/versions/2/infer", 404),
        ("GET", "/v3", 404),
        ("GET", INFER, 405),
    ],
)
def test_what_is_not_there_is_said_so(endpoint: Endpoint, method: str, path: str, status: int) -> None:
    answer = endpoint.client.request(method, path, content=b"{}" if method == "POST" else None)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


@pytest.mark.parametrize("size", [MAX_BODY + 1, 50 * MAX_BODY])
def test_a_body_that_is_too_large_is_refused(endpoint: Endpoint, size: int) -> None:
    def chunks() -> Iterator[bytes]:
        yield from (b" " * 1000 for _ in range(size // 1000 + 1))

    for content in (b" " * size, chunks()):
        answer = endpoint.client.post(INFER, content=content)
        assert (answer.status_code, list(answer.json())) == (413, ["error"])


def test_compressed_bodies_are_refused(endpoint: Endpoint) -> None:
    status, answer = endpoint.post(tensor(), **{"Content-Encoding": "gzip"})
    assert status == 400 and "gzip" in answer["error"]


def test_too_many_waiting_get_503_and_the_others_their_answers() -> None:
    endpoint = Endpoint(max_waiting=1)
    endpoint.engine.gate = gate = threading.Event()
    with ThreadPoolExecutor(8) as pool, endpoint.client:
        answers = [pool.submit(endpoint.post, tensor())]
        assert endpoint.engine.entered.acquire(timeout=20)
        answers += [pool.submit(endpoint.post, tensor()) for _ in range(5)]
        refused = [a for a in answers[1:] if _status_within(a, 0.5) == 503]
        assert len(refused) == 4
        gate.set()
        assert sorted(a.result()[0] for a in answers) == [200, 200, 503, 503, 503, 503]
    assert "error" in refused[0].result()[1]
    assert endpoint.metric("planner_requests_total", model="double", status="503") == 4
    endpoint.service.close()


def _status_within(answer: Any, seconds: float) -> int | None:
    try:
        return int(answer.result(seconds)[0])
    except TimeoutError:
        return None


def test_an_engine_that_died_makes_it_unready(endpoint: Endpoint) -> None:
    status, answer = endpoint.post(tensor([DEADLY, 1]))
    assert status == 503 and "died" in answer["error"]
    for path in ("/v2/health/ready", "/v2/models/double/ready"):
        assert endpoint.client.get(path).status_code == 503
    assert endpoint.client.get("/v2/health/live").status_code == 200
    assert endpoint.post(tensor())[0] == 503


def test_draining_refuses_what_is_new_and_is_not_ready(endpoint: Endpoint) -> None:
    endpoint.service.draining = True
    assert endpoint.post(tensor())[0] == 503
    assert endpoint.client.get("/v2/health/ready").status_code == 503


def test_not_a_number_comes_back_raw_only(endpoint: Endpoint) -> None:
    raw = np.array([np.nan, 1], "<f4").tobytes()
    for binary, status in ((False, 400), (True, 200)):
        asked = tensor(data=None, parameters={"binary_data_size": 8})
        head = json.dumps(asked | {"parameters": {"binary_data_output": binary}}).encode()
        answer = endpoint.client.post(INFER, content=head + raw, headers={HEADER_LENGTH: str(len(head))})
        assert answer.status_code == status


def test_metrics_count_and_price(endpoint: Endpoint) -> None:
    for _ in range(3):
        endpoint.post(tensor([1, 2, 3, 4], shape=[2, 2]))
    endpoint.post(b"{")
    assert endpoint.metric("planner_requests_total", model="double", status="200") == 3
    assert endpoint.metric("planner_requests_total", model="double", status="400") == 1
    assert endpoint.metric("planner_batch_size_sum", model="double") == 6
    assert endpoint.metric("planner_request_seconds_count", model="double") == 3
    assert endpoint.metric("planner_usd_per_hour", model="double") == 0.36
    rate = endpoint.metric("planner_requests_per_second", model="double")
    assert rate > 0
    assert endpoint.metric("planner_replicas_ready", model="double") == 1


def test_the_rate_is_that_of_the_last_minute() -> None:
    now = 1000.0
    rate = Rate(lambda: now)
    assert rate.per_second() == 0
    for _ in range(50):
        rate.count()
    now += 10
    assert rate.per_second() == pytest.approx(5)
    for second in range(120):
        now = 1010.0 + second
        for _ in range(7):
            rate.count()
    assert rate.per_second() == pytest.approx(7)
    now += 59
    assert rate.per_second() == pytest.approx(7 / 60 * 2, rel=0.6)
    now += 1000
    assert rate.per_second() == 0


def test_dollars_per_million_requests() -> None:
    assert price(0.36, 100) == pytest.approx(1.0)
    assert np.isnan(price(0.36, 0))
