"""A design simulated before it is run: from a page of TOML to operating characteristics and a report."""
