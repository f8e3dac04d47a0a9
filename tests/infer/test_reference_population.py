"""Population fits of the classics against NONMEM, nlmixr2 and nlme.

NONMEM and nlmixr2 print −2 log L without the constant n log 2π.
"""

from pathlib import Path

import numpy as np
import pytest

from trialtwin.infer.alternating import fit_alternating
from trialtwin.infer.population import Fit, fit_population

from . import pharmacokinetics as classics

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def theophylline(shared: Path) -> Fit:
    return fit_population(classics.theophylline_model(), classics.theophylline(shared / "data" / "pk" / "theo_sd.csv"))


@pytest.fixture(scope="module")
def phenobarbital(shared: Path) -> Fit:
    return fit_population(
        classics.phenobarbital_model(), classics.phenobarbital(shared / "data" / "pk" / "pheno_sd.csv")
    )


def test_reference_theophylline_objective(theophylline: Fit) -> None:
    """nlmixr2 FOCEI, theo_sd: OFV 116.80, which its importance-sampled value approximates."""
    assert theophylline.patients.rows == 132
    assert theophylline.ofv == pytest.approx(116.80, abs=0.01)
    exact, error = theophylline.importance_likelihood(1024)
    assert error < 0.1
    assert exact == pytest.approx(theophylline.log_likelihood, abs=1.0)


def test_reference_theophylline_estimates(theophylline: Fit) -> None:
    """nlmixr2 FOCEI, theo_sd: tka .464, tcl 1.012, tv 3.460, ω² .402/.069/.019, additive SD .694."""
    found = theophylline.estimates()
    np.testing.assert_allclose([np.log(found[n].value) for n in ("ka", "cl", "v")], [0.464, 1.012, 3.460], atol=1e-3)
    omega = [found[f"omega.{n}"].value for n in ("ka", "cl", "v")]
    np.testing.assert_allclose(omega, [0.402, 0.069, 0.019], atol=1e-3)
    assert found["sigma.additive"].value == pytest.approx(0.694, abs=1e-3)


def test_theophylline_tells_what_a_reader_needs(theophylline: Fit) -> None:
    """Errors, effects, shrinkage, condition: each finite, and nothing is uninformed."""
    assert theophylline.uninformed() == ()
    assert set(theophylline.individual_effects()) == {str(k) for k in range(1, 13)}
    assert all(-0.2 < s < 0.4 for s in theophylline.shrinkage().values())
    assert 1 < theophylline.condition()[0] < 100
    for one in theophylline.estimates().values():
        assert one.low < one.value < one.high
    inverse, outer, both = (theophylline.maximum.covariance(kind) for kind in ("R", "S", "sandwich"))
    np.testing.assert_allclose(both, inverse @ np.linalg.inv(outer) @ inverse, rtol=1e-6, atol=1e-12)


def test_reference_phenobarbital(phenobarbital: Fit) -> None:
    """NONMEM 7 FOCEI, pheno: OFV 586.276056 and its estimates TVCL, TVV, COVAPGR, ω² of CL and V, σ²."""
    assert phenobarbital.patients.rows == 155
    assert phenobarbital.ofv == pytest.approx(586.276056, abs=1e-3)
    found = [e.value for e in phenobarbital.estimates().values()]
    found[-1] **= 2
    np.testing.assert_allclose(found, [0.00469555, 0.984258, 0.15892, 0.0293508, 0.027906, 0.013241], rtol=2e-3)


def test_reference_indomethacin_by_the_algorithm_of_nlme(shared: Path) -> None:
    """Nlme (ML, pdDiag on A1, lrc1, A2): logLik 54.6; A1 2.828, lrc1 .774, A2 .461, lrc2 −1.344."""
    data = classics.indomethacin(shared / "data" / "pk" / "indometh.csv")
    found = fit_alternating(classics.indomethacin_model(), data)
    assert found.log_likelihood == pytest.approx(54.6, abs=0.05)
    theta = [found.estimates()[n].value for n in ("A1", "lrc1", "A2", "lrc2")]
    np.testing.assert_allclose(theta, [2.828, 0.774, 0.461, -1.344], atol=1e-3)


@pytest.mark.slow
def test_reference_indomethacin_has_a_higher_maximum(shared: Path) -> None:
    """FOCE's maximum lies 1.5 above nlme's fixed point, confirmed by importance sampling, at no variance of lrc1."""
    data = classics.indomethacin(shared / "data" / "pk" / "indometh.csv")
    found = fit_population(classics.indomethacin_model(), data)
    exact, error = found.importance_likelihood(4096)
    assert found.log_likelihood == pytest.approx(56.11, abs=0.02)
    assert abs(exact - found.log_likelihood) < 0.05 + 3 * error
    assert found.uninformed() == ("omega.lrc1",)


@pytest.mark.slow
def test_reference_warfarin_concentrations(shared: Path) -> None:
    """Published ballpark: CL .13 L/h, V 8 L, ka about 1 /h, lag under 1.5 h; each inside the interval."""
    found = fit_population(classics.warfarin_model(), classics.warfarin(shared / "data" / "pk" / "warfarin.csv"))
    estimates = found.estimates()
    for name, value in {"cl": 0.13, "v": 8.0, "ka": 1.0}.items():
        assert estimates[name].low < value < estimates[name].high
    assert 0.5 < estimates["lag"].value < 1.5


@pytest.mark.slow
def test_reference_warfarin_effect(shared: Path) -> None:
    """Prothrombin activity, turnover inhibited by warfarin: E0 about 96, kout about .05 /h, IC50 about 1.2 mg/L."""
    path = shared / "data" / "pk" / "warfarin.csv"
    kinetics = fit_population(classics.warfarin_model(), classics.warfarin(path))
    found = fit_population(classics.warfarin_effect_model(), classics.warfarin_effect(path, kinetics))
    estimates = found.estimates()
    assert 90 < estimates["start"].value < 102
    assert 0.03 < estimates["turnover"].value < 0.08
    assert 0.5 < estimates["half"].value < 2.5
    assert found.uninformed() == ()
