"""Published trials replayed: their patients at entry, arms and visits, and what the calibrated model expects."""
