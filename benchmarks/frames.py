"""The metric of the speech benchmark: how much of a window is rightly told to be speech or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Share of frames on the right side of 0.5, for each window: [windows, frames] -> [windows].

    A score for a window, not for a frame: neighbouring frames are too alike to count as samples.
    """
    speech = outputs[0].reshape(labels.shape) > 0.5
    return (speech == (labels > 0)).mean(axis=1)
