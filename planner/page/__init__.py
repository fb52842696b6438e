"""report.html: a plan to look at, in one file that needs nothing else.

``Shown`` holds what there is to show, ``document`` puts the page together of its sections (``purchase``,
``cost``, ``front``, ``queueing``, ``sweeps``, ``evidence``), ``html`` and ``charts`` are what these are made
of, ``words`` says how numbers are written. docs/design/0008-report.md tells why it is made so.
"""

from planner.page.document import page
from planner.page.shown import ByRate, Shown

REPORT_HTML = "report.html"

__all__ = ["REPORT_HTML", "ByRate", "Shown", "page"]
