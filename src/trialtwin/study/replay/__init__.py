"""Published trials replayed: their patients at entry, their arms and visits, and what the calibrated model expects of them."""
