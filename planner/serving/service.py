"""What answers requests: the replicas of each model, whatever way requests come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np

from planner.errors import BackendError
from planner.serving.batcher import Batched, Batcher, Instance, Overfull, Unavailable
from planner.serving.engine import EngineDied, EngineProcess
from planner.serving.local import LocalModel
from planner.serving.metrics import Metrics, Rate, price
from planner.serving.protocol import InferRequest, ModelSpec, Refused
from planner.units import NS_PER_S

Start = Callable[[LocalModel], Instance]


def start_engine(model: LocalModel) -> Instance:
    """Load and warm up an engine. Raises BackendError where it cannot be loaded."""
    engine = EngineProcess(model.engine.path, model.candidate.backend, model.threads)
    try:
        for feed in model.zeros():
            engine.infer(feed)
    except EngineDied:
        engine.close()
        raise
    except BackendError:
        # Zeros are not every model's input; it will be warm after the first requests.
        pass
    return engine


class ServedModel:
    """The replicas of one workload's candidates: one is chosen by its share of the requests, and of its
    replicas the one with least to do."""

    def __init__(
        self,
        models: list[LocalModel],
        metrics: Metrics,
        max_waiting: int,
        start: Start,
        rng: random.Random,
    ) -> None:
        self.spec: ModelSpec = models[0].spec
        self._models, self._rng, self._rate = models, rng, Rate()
        self._metrics = metrics
        self._replicas: list[list[Batcher]] = []
        try:
            for model in models:
                self._replicas.append([])
                for _ in range(model.replicas):
                    self._replicas[-1].append(self._replica(model, max_waiting, start))
        except BaseException:
            self.close()
            raise
        self._tell()

    @property
    def ready(self) -> bool:
        """Whether every replica is whole."""
        return all(batcher.ready for batcher in self._all())

    async def infer(self, request: InferRequest) -> list[np.ndarray]:
        """Raises Refused with the protocol's status."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[np.ndarray]] = loop.create_future()

        def done(outcome: list[np.ndarray] | Exception) -> None:
            loop.call_soon_threadsafe(_settle, answer, outcome)

        begin = perf_counter()
        try:
            self._chosen().submit(request.feed, done, request.size, request.kind)
            outputs = await answer
        except Overfull as error:
            raise Refused(503, f"{self.spec.name}: {error}; try again later") from None
        except (Unavailable, EngineDied) as error:
            raise Refused(503, f"{self.spec.name}: {error}") from None
        except BackendError as error:
            raise Refused(400, f"{self.spec.name}: the engine refuses these inputs: {error}") from None
        self._metrics.seconds.labels(self.spec.name).observe(perf_counter() - begin)
        self._rate.count()
        return outputs

    def close(self) -> None:
        for batcher in self._all():
            batcher.close()

    def _all(self) -> list[Batcher]:
        return [batcher for replicas in self._replicas for batcher in replicas]

    def _chosen(self) -> Batcher:
        """Of those that are there, or else of all."""
        (replicas,) = self._rng.choices(self._replicas, [model.share for model in self._models])
        for among in (replicas, self._all()):
            if alive := [batcher for batcher in among if batcher.alive]:
                return min(alive, key=lambda batcher: batcher.load)
        return replicas[0]

    def _replica(self, model: LocalModel, max_waiting: int, start: Start) -> Batcher:
        return Batcher(
            partial(start, model),
            model.batch_sizes,
            instances=model.candidate.instances,
            queue_delay_ns=model.queue_delay_ns,
            batched=bool(model.spec.batch),
            max_waiting=max_waiting,
            observe=self._observe,
        )

    def _observe(self, batch: Batched) -> None:
        self._metrics.batch.labels(self.spec.name).observe(batch.inferences)
        self._metrics.engine_seconds.labels(self.spec.name).observe(batch.engine_ns / NS_PER_S)

    def _tell(self) -> None:
        name, every, metrics = self.spec.name, self._all(), self._metrics
        usd_per_hour = sum(model.usd_per_hour * model.replicas for model in self._models)
        metrics.watch(name, "waiting", lambda: sum(b.waiting for b in every))
        metrics.watch(name, "replicas", lambda: len(every))
        metrics.watch(name, "replicas_ready", lambda: sum(b.ready for b in every))
        metrics.watch(name, "engine_restarts", lambda: sum(b.restarts for b in every))
        metrics.watch(name, "requests_per_second", self._rate.per_second)
        metrics.watch(name, "usd_per_hour", lambda: usd_per_hour)
        metrics.watch(name, "usd_per_million_requests", lambda: price(usd_per_hour, self._rate.per_second()))


class Service:
    """All models of a plan that run here. Starts their engines; ``close`` ends them."""

    def __init__(
        self,
        models: tuple[LocalModel, ...],
        max_waiting: int,
        start: Start = start_engine,
        rng: random.Random | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.draining = False
        self.under_way = 0
        """Requests whose answer is not written yet."""
        self.models: dict[str, ServedModel] = {}
        by_name: dict[str, list[LocalModel]] = {}
        for model in models:
            by_name.setdefault(model.spec.name, []).append(model)
        try:
            for name, of_name in by_name.items():
                self.models[name] = ServedModel(
                    of_name, self.metrics, max_waiting, start, rng or random.Random()
                )
        except BaseException:
            self.close()
            raise

    @property
    def ready(self) -> bool:
        return not self.draining and all(model.ready for model in self.models.values())

    def close(self) -> None:
        for model in self.models.values():
            model.close()


def _settle(answer: asyncio.Future[list[np.ndarray]], outcome: list[np.ndarray] | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
