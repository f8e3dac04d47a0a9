"""Two-sample t inference for a difference in means, with pooled or separate variances."""

import numpy as np
from jaxtyping import Float

from trialtwin.core.arrays import require_finite
from trialtwin.core.errors import FitError
from trialtwin.core.estimate import Estimand, Estimate
from trialtwin.stats.wald import wald_estimate

_ROUNDING = 1e-13


def two_sample_t(
    first: Float[np.ndarray, " first"],
    second: Float[np.ndarray, " second"],
    label: str,
    *,
    equal_variances: bool = False,
    level: float = 0.95,
    unit: str = "",
    estimand: Estimand | None = None,
) -> Estimate:
    """Estimate mean(first) − mean(second).

    Pooled: se² = s²(1/n₁ + 1/n₂) with n₁ + n₂ − 2 degrees of freedom. Welch: se² = s₁²/n₁ + s₂²/n₂ with
    (s₁²/n₁ + s₂²/n₂)² / [(s₁²/n₁)²/(n₁ − 1) + (s₂²/n₂)²/(n₂ − 1)] degrees of freedom (doi:10.1093/biomet/34.1-2.28).

    Raises
    ------
    DataError
        If a value is not finite.
    FitError
        If a sample has fewer than two values, or neither varies.

    Examples
    --------
    >>> two_sample_t(np.array([1.0, 2.0, 3.0]), np.array([0.0, 4.0, 5.0]), "A − B").value
    -1.0
    """
    for name, sample in (("first", first), ("second", second)):
        require_finite(f"the {name} sample", sample)
        if len(sample) < 2:
            raise FitError(f"no inference for {label!r}: the {name} sample has {len(sample)} value(s), two are needed")
    n1, n2 = len(first), len(second)
    means = float(first.mean()), float(second.mean())
    v1, v2 = float(first.var(ddof=1)), float(second.var(ddof=1))
    if max(v1, v2) <= (_ROUNDING * max(map(abs, means))) ** 2:
        raise FitError(f"no inference for {label!r}: no value differs from its sample's mean")
    df: float
    if equal_variances:
        df = n1 + n2 - 2.0
        square = ((n1 - 1) * v1 + (n2 - 1) * v2) / df * (1 / n1 + 1 / n2)
    else:
        square = v1 / n1 + v2 / n2
        df = square**2 / ((v1 / n1) ** 2 / (n1 - 1) + (v2 / n2) ** 2 / (n2 - 1))
    return wald_estimate(
        means[0] - means[1],
        float(np.sqrt(square)),
        contrast=label,
        n=n1 + n2,
        df=df,
        level=level,
        method="two-sample t" if equal_variances else "Welch t",
        variance="pooled" if equal_variances else "Welch",
        unit=unit,
        estimand=estimand,
    )
