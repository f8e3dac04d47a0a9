"""Double precision for every test of drugs."""

from trialtwin.core.backend import enable_float64

enable_float64()
