"""The data doctor: looks at every file of a data set before a GPU hour is spent on it."""

from raysearch.inspection.findings import Finding, errors, refuse
from raysearch.inspection.report import Report, inspect, quick_findings

__all__ = ["Finding", "Report", "errors", "inspect", "quick_findings", "refuse"]
