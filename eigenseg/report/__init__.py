"""An HTML report of an evaluation: summary, distribution over items, worst, median and best cases."""

from eigenseg.report.page import write_report

__all__ = ["write_report"]
