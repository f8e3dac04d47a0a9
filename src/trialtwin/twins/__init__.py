"""Twins: models of patients that forecast each one's course, and cross-fitting so that nobody scores themselves."""
