"""The report of a posterior: one page of HTML with the genealogy of its reasoning."""

from __future__ import annotations

from pyro_llm.diagnostics.report.data import ReportData, report_data
from pyro_llm.diagnostics.report.genealogy import Genealogy
from pyro_llm.diagnostics.report.page import report

__all__ = ["Genealogy", "ReportData", "report", "report_data"]
