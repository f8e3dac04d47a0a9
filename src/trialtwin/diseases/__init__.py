"""Diseases as dynamical systems: states, mechanisms that treatments act on, and the scales that observe them."""
