"""Drugs: regimens, pharmacokinetics, effects and harms, and a library of one-page files."""
