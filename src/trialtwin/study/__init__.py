"""A study from its page of TOML to its results: read, check, fit, validate, analyse."""
