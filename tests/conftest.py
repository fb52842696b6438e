"""What all tests share: the generated models. ``import onnx_models`` works in every test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# The same examples in every run, so that a change is judged by what it changed; look for new ones with
# ``pytest --hypothesis-profile=explore``.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("fixed")

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture(scope="session")
def mlp_model(tmp_path_factory: pytest.TempPathFactory) -> LabelledModel:
    """A classifier of 42 MB for which batching pays, with its data; read only. Takes two seconds to make."""
    import onnx_models

    return onnx_models.mlp(tmp_path_factory.mktemp("mlp") / "model.onnx")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> LabelledModel:
    """A classifier of 3 kB with its data; read only."""
    import onnx_models

    return onnx_models.tiny(tmp_path_factory.mktemp("tiny") / "model.onnx")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-golden", action="store_true", help="write the golden files anew")
