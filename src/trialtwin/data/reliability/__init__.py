"""Is the raw data fit to use? Rules, their findings, and scores; nothing in the data is changed.

Rules stand in files by topic and are listed in ``registry.py``; ``assess`` puts them to a trial's tables.
"""

from trialtwin.data.reliability.assessment import Reliability, assess
from trialtwin.data.reliability.registry import RULES
from trialtwin.data.reliability.rule import Examination, Rule, Severity, Trial

__all__ = ["RULES", "Examination", "Reliability", "Rule", "Severity", "Trial", "assess"]
