"""Validation: whether forecasts agree with what happened to patients that the twin had not seen."""
