"""Numerical engine: ensembles of ordinary differential equations, and the manifest of a run."""
