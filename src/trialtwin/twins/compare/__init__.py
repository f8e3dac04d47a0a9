"""Kinds of twins compared on one cohort: same folds, same information told to each, everything out of fold."""
