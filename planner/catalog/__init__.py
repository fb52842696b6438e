"""The hardware catalog: what devices can do and what providers sell them for, each figure with its source."""

from planner.catalog.age import age_days, stale
from planner.catalog.catalog import Catalog, CpuSignature, Region
from planner.catalog.cpus import CpuIdentity, CpuMatch, local_cpu, match_cpu, sold_as
from planner.catalog.diff import CatalogDiff, PriceChange, diff
from planner.catalog.fields import Problem
from planner.catalog.filters import allowed_devices, check_limits, matches, offers_with, select
from planner.catalog.gpus import match_gpu, slice_of, sliced
from planner.catalog.imported import Import, import_skypilot
from planner.catalog.load import check, load
from planner.catalog.lookup import Figure, figures, find

__all__ = [
    "Catalog",
    "CatalogDiff",
    "CpuIdentity",
    "CpuMatch",
    "CpuSignature",
    "Figure",
    "Import",
    "PriceChange",
    "Problem",
    "Region",
    "age_days",
    "allowed_devices",
    "check",
    "check_limits",
    "diff",
    "figures",
    "find",
    "import_skypilot",
    "load",
    "local_cpu",
    "match_cpu",
    "match_gpu",
    "matches",
    "offers_with",
    "select",
    "slice_of",
    "sliced",
    "sold_as",
    "stale",
]
