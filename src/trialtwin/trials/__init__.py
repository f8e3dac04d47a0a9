"""Finished trials: the analysis set, the analyses by name, and what a prognostic score gained."""
