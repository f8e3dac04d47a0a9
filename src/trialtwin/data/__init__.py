"""Patient data in and out: CDISC, tables, dose records; derivations; reliability; an example trial of our own."""
