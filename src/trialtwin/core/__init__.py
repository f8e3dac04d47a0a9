"""The types that every room meets: cohorts, twins, trajectories, estimates, findings and one error tree."""
