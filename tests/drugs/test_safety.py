"""Harms: published proportions by APOE4, their course in time, and bounds that hold everywhere."""

import csv
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from trialtwin.core.errors import ConfigError
from trialtwin.drugs.registry import DRUGS, find_drug
from trialtwin.drugs.safety import AbstractHazard, hazards
from trialtwin.drugs.therapy import prescribe

GENOTYPES = {"APOE4 noncarrier": 0.0, "APOE4 heterozygote": 1.0, "APOE4 homozygote": 2.0}
TRIALS = {"CLARITY-AD": ("lecanemab", 78 * 7), "TRAILBLAZER-ALZ 2": ("donanemab", 76 * 7)}


def exposed(name: str) -> float:
    therapy = prescribe(find_drug(name), until=78 * 7.0)
    return float(therapy.exposure(therapy.individual(jnp.zeros(len(therapy.effects)), {})))


EXPOSURES = {name: exposed(name) for name in ("lecanemab", "donanemab")}


def hazard_of(name: str, event: str) -> AbstractHazard:
    return next(h for h in hazards(find_drug(name).page.hazard) if h.event == event)


def test_reference_proportions_by_genotype(shared: Path) -> None:
    """ARIA-E and ARIA-H of the antibodies' trials, in every genotype, within 3.5 points (11 observed to 50 %).

    The largest miss is lecanemab's ARIA-E in homozygotes, 29.4 % against 32.6 %: it comes from the published exposure
    model, which was fitted to another trial, and not from this table.
    """
    with (shared / "science" / "trials_calibration.csv").open(encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["trial"] in TRIALS and r["population"] in GENOTYPES]
    rows = [r for r in rows if r["endpoint"] in ("ARIA-E", "ARIA-H") and r["stat"] == "proportion"]
    assert len(rows) == 24
    for row in rows:
        name, days = TRIALS[row["trial"]]
        hazard, who = hazard_of(name, row["endpoint"]), {"APOE4": jnp.asarray(GENOTYPES[row["population"]])}
        placebo = row["arm"] == "placebo"
        found = hazard.placebo(who, days) if placebo else hazard.incidence(who, EXPOSURES[name], days)
        assert float(found) == pytest.approx(float(row["value"]), abs=0.014 if placebo else 0.035), row


def test_reference_most_of_the_excess_comes_early() -> None:
    """70 % of lecanemab's ARIA-E has its onset within 3 months; the median event is over 8.6 weeks after its onset."""
    hazard, who = hazard_of("lecanemab", "ARIA-E"), {"APOE4": jnp.asarray(1.0)}

    def excess(days: float) -> float:
        with_, without = (float(p) for p in (hazard.incidence(who, 305.0, days), hazard.placebo(who, days)))
        return 1 - (1 - with_) / (1 - without)

    assert excess(91) / excess(546) == pytest.approx(0.70, abs=1e-6)


def test_independent_prevalence_by_quadrature() -> None:
    """P(there on day t) = ∫ onset(s) 2^(−(t − s)/8.6 weeks) ds, with the onset differentiated from the incidence."""
    hazard, who = hazard_of("lecanemab", "ARIA-E"), {"APOE4": jnp.asarray(2.0)}
    pace, over = float(hazard.pace), float(hazard.follow_up)
    total = 1 - (1 - float(hazard.incidence(who, 305.0, over))) / (1 - float(hazard.placebo(who, over)))
    for t in (20.0, 91.0, 300.0):

        def onset(s: float, t: float = t) -> float:
            return math.exp(-s / pace) / pace / -math.expm1(-over / pace) * 0.5 ** ((t - s) / (8.6 * 7))

        expected = total * quad(onset, 0, t)[0]
        assert float(hazard.prevalence(who, 305.0, t)) == pytest.approx(expected, rel=1e-6)


def test_more_exposure_is_more_risk_and_none_is_near_placebo() -> None:
    hazard, who = hazard_of("lecanemab", "ARIA-E"), {"APOE4": jnp.asarray(0.0)}
    risks = [float(hazard.incidence(who, x, 546.0)) for x in (0.0, 100.0, 305.0, 600.0)]
    assert risks == sorted(risks)
    assert risks[0] == pytest.approx(float(hazard.placebo(who, 546.0)), abs=1e-3)


ALL = [(name, hazard) for name in DRUGS for hazard in hazards(find_drug(name).page.hazard)]


@given(
    st.sampled_from(ALL),
    st.one_of(st.floats(-1.0, 3.0), st.just(math.nan)),
    st.floats(-10.0, 1e5),
    st.floats(-10.0, 1e5),
    st.floats(0.0, 1e4),
)
@settings(max_examples=200, deadline=None)
def test_law_probabilities_stay_within_bounds_and_rise(
    one: tuple[str, AbstractHazard], alleles: float, exposure: float, days: float, later: float
) -> None:
    _, hazard = one
    who = {"APOE4": jnp.asarray(alleles)}
    found = [
        float(p)
        for p in (
            hazard.placebo(who, days),
            hazard.incidence(who, exposure, days),
            hazard.incidence(who, exposure, days + later),
            hazard.prevalence(who, exposure, days),
        )
    ]
    assert all(0.0 <= p <= 1.0 for p in found), found
    assert found[0] <= found[1] + 1e-12 <= found[2] + 2e-12


def test_every_library_drug_with_a_hazard_has_placebo_below_it() -> None:
    assert len(ALL) >= 8
    for name, hazard in ALL:
        who = {"APOE4": jnp.asarray(1.0)}
        assert float(hazard.incidence(who, 100.0, 300.0)) >= float(hazard.placebo(who, 300.0)), name


def test_a_share_that_is_not_early_is_refused() -> None:
    page = next(p for p in find_drug("lecanemab").page.hazard if p.event == "ARIA-E")
    slow = page.model_copy(update={"early": page.early.model_copy(update={"value": 0.1})})
    with pytest.raises(ConfigError, match="no more than a constant hazard"):
        hazards((slow,))


def test_vector_days_are_accepted() -> None:
    days = np.linspace(0, 546, 5)
    risks = np.asarray(hazard_of("donanemab", "ARIA-E").incidence({"APOE4": jnp.asarray(1.0)}, 0.0, days))
    assert risks.shape == (5,)
    assert np.all(np.diff(risks) > 0)
