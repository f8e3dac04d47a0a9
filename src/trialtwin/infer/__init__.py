"""Posteriors for any log density: modes, Laplace approximations, and optimisation that says when it failed."""
