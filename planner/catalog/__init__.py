"""The hardware catalog: what devices can do and what providers sell them for, each figure with its source."""

from planner.catalog.catalog import Catalog, CpuSignature
from planner.catalog.cpus import CpuIdentity, CpuMatch, local_cpu, match_cpu, sold_as
from planner.catalog.fields import Problem
from planner.catalog.filters import check_limits, matches, offers_with, select
from planner.catalog.load import check, load
from planner.catalog.lookup import Figure, figures, find

__all__ = [
    "Catalog",
    "CpuIdentity",
    "CpuMatch",
    "CpuSignature",
    "Figure",
    "Problem",
    "check",
    "check_limits",
    "figures",
    "find",
    "load",
    "local_cpu",
    "match_cpu",
    "matches",
    "offers_with",
    "select",
    "sold_as",
]
