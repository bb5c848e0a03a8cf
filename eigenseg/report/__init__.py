"""HTML reports: of an evaluation (summary, distribution, cases drawn) and of a training (curves)."""

from eigenseg.report.page import write_report
from eigenseg.report.training import write_training_report

__all__ = ["write_report", "write_training_report"]
