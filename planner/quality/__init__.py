"""How good a variant is: data, metrics, and intervals that small samples cannot fool."""

from planner.quality.base import Metric
from planner.quality.data import Dataset, load_data, overlap, random_data, random_inputs
from planner.quality.evaluate import assess, predict_all
from planner.quality.floors import samples_needed, undecided
from planner.quality.metrics import check_metric, metric, metric_names

__all__ = [
    "Dataset",
    "Metric",
    "assess",
    "check_metric",
    "load_data",
    "metric",
    "metric_names",
    "overlap",
    "predict_all",
    "random_data",
    "random_inputs",
    "samples_needed",
    "undecided",
]
