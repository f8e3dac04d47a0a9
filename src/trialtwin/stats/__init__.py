"""Statistics on arrays: linear models, two-sample tests, calibration, sample size. Arrays in, `Estimate` out."""
