"""A workload with all that a plan needs of it: its variants, judged, and what can be measured of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from planner.capacity import serving
from planner.catalog import Catalog
from planner.domain.offer import Offer
from planner.domain.plan import DataDigest, Judgement, Planned, Serving
from planner.domain.problem import Rejection
from planner.domain.profile import Configuration
from planner.domain.progress import Progress
from planner.domain.workload import Workload
from planner.errors import InfeasibleError
from planner.pipeline.asked import counts_as
from planner.pipeline.blocked import blocked_by_floor
from planner.pipeline.inputs import BACKEND, Prepared, prepare
from planner.pipeline.solution import why_not_sold
from planner.pipeline.steps import Measurable, judge, measurable
from planner.profiling.guided import Choice, Group
from planner.quality import Dataset
from planner.spec import Spec

Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Traits:
    """What makes a candidate of a group's configurations.

    The workload that they serve, what they are priced as (``slices`` of it), the most memory that a replica
    is known to need (0 where nothing is known), and what they count in a mean quality. ``among`` is the
    workload's name where there are several.
    """

    workload: Workload
    device: str
    memory_bytes: Callable[[Configuration], int] = lambda c: 0
    slices: tuple[int, int] | None = None
    quality: float | None = None
    among: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One workload, ready to be planned for.

    Either it is measured, ``here``, or it has ``servings`` of imported profiles. ``notes``: what the reader
    must know, for what the plan uses of it.
    """

    spec: Spec
    planned: Planned
    judgements: tuple[Judgement, ...]
    rejections: tuple[Rejection, ...]
    notes: Callable[[Collection[Serving]], Iterator[str]]
    prepared: Prepared | None = None
    here: Measurable | None = None
    groups: tuple[Group, ...] = ()
    servings: tuple[Serving, ...] = ()
    several: bool = False

    def traits(self, group: Group) -> Traits:
        assert self.here is not None
        first, profiles = group.configurations[0], self.here.bench.profiles
        return Traits(
            workload=self.spec.workload,
            device=self.here.priced_as[first.device],
            memory_bytes=lambda c: profiles[c].memory_bytes if c in profiles else 0,
            slices=self.here.slices.get(first.device),
            quality=quality_of(self.spec.workload, self.judgements, first.variant, first.backend),
            among=self.spec.workload.name if self.several else "",
        )

    def serving(self, groups: Sequence[Group], choice: Choice) -> Serving:
        """Of a choice that was measured in full; ``groups``: its own."""
        assert self.here is not None
        traits, profiles = self.traits(groups[-1]), self.here.bench.profiles
        return serving(
            self.spec.workload,
            {g.request_class: tuple(profiles[c] for c in g.prefix(choice.count)) for g in groups},
            self.spec.packing_derating,
            traits.device,
            traits.slices,
            traits.among,
            traits.quality,
            choice.instances,
        )


def quality_of(
    workload: Workload, judgements: Collection[Judgement], variant: str, backend_name: str
) -> float | None:
    """What a variant counts in a mean, as its backend or else the reference judges it."""
    found = {j.backend: j.quality for j in judgements if j.variant.name == variant}
    return counts_as(workload, judged_for(found, backend_name)) if found else None


def judged_for(by_backend: Mapping[str, Told], backend_name: str) -> Told:
    """What counts of a variant's judgements where it serves with a backend: that backend's own, or else the
    reference's, or else whoever's there is."""
    return by_backend.get(backend_name) or by_backend.get(BACKEND) or next(iter(by_backend.values()))


@contextmanager
def measured(
    spec: Spec, catalog: Catalog, offers: Collection[Offer], several: bool, progress: Progress
) -> Iterator[Service]:
    """A workload with a model: variants made and judged now, measured while the context lasts.

    Raises InfeasibleError where no variant holds the floor.
    """
    prepared = prepare(spec, catalog=catalog)
    judged = judge(prepared, progress)
    if not judged.serving(prepared):
        raise InfeasibleError(blocked_by_floor(spec.workload.floor, judged.deciding(prepared)))
    with measurable(prepared, judged, progress) as everything:
        here = _of_sold_devices(catalog, everything, offers)
        groups = here.groups
        if several:
            groups = tuple(g.called(f"{spec.workload.name}/") for g in groups)
        main = prepared.main
        yield Service(
            spec=spec,
            planned=Planned(
                spec.workload,
                model=main.model,
                calibration=_digest(spec.entrants[0].calibration, main.calibration),
                evaluation=_digest(spec.entrants[0].evaluation, main.evaluation),
            ),
            judgements=judged.judgements,
            rejections=(*judged.rejections, *here.rejections),
            notes=lambda used: _notes(prepared, here, used),
            prepared=prepared,
            here=here,
            groups=groups,
            several=several,
        )


def _of_sold_devices(catalog: Catalog, here: Measurable, offers: Collection[Offer]) -> Measurable:
    """Without the devices that nobody sells: what they can do decides nothing."""
    sold = {offer.device for offer in offers}
    unsold = {device for device, name in here.priced_as.items() if name not in sold}
    rejected = [
        Rejection("fleet", device, why_not_sold(here.priced_as[device], catalog)) for device in sorted(unsold)
    ]
    groups = tuple(group for group in here.groups if group.configurations[0].device not in unsold)
    return replace(here, groups=groups, rejections=(*here.rejections, *rejected))


def _digest(source: str, data: Dataset) -> DataDigest:
    return DataDigest(source, data.digest, data.samples, data.synthetic)


def _notes(prepared: Prepared, here: Measurable, used: Collection[Serving]) -> Iterator[str]:
    """What the reader must know before trusting the plan; ``used``: what it runs of this workload."""
    yield from here.notes
    far = {p.configuration.device for s in used for p in s.profiles} - {p.device for p in prepared.places}
    if far:
        yield (
            f"Profiles of {', '.join(sorted(far))} were taken on other machines, and what the plan uses of "
            "them was not measured again after it was chosen: the device is not here."
        )
    if prepared.main.evaluation.synthetic:
        yield (
            "Evaluation data are random: accuracy is agreement with fp32 on inputs that mean nothing. "
            "Give labelled data before deploying."
        )
    elif prepared.main.calibration.synthetic:
        yield "Calibration data are random: give real inputs, and quantized variants may keep more accuracy."
