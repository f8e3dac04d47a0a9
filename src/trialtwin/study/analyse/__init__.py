"""A finished trial analysed: from a page of TOML and ADaM data sets to results and a report."""
