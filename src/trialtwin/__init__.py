"""Digital twins for clinical trials: forecast each patient, adjust the trial, show the evidence."""

from importlib.metadata import version

__version__ = version("trialtwin")
