"""The quickstart's data: the workload ``files`` serves the same model."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("quickstart_data", Path(__file__).parents[1] / "quickstart" / "data.py")
assert _spec is not None and _spec.loader is not None
_quickstart = module_from_spec(_spec)
_spec.loader.exec_module(_quickstart)

calibration, evaluation = _quickstart.calibration, _quickstart.evaluation
