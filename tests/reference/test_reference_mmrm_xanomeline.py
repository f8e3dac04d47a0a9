"""The xanomeline trial's repeated-measures analysis (Table 14-3.11 of the CDISC pilot submission, SAS proc mixed).

Efficacy population, observed change in ADAS-Cog(11) at weeks 8, 16 and 24 (ANL01FL "Y", no DTYPE);
CHG = SITEGR1 + TRTP × AVISIT + BASE × AVISIT, unstructured covariance, REML, ddfm=kr.
"""

from pathlib import Path

import pyreadstat
import pytest

from trialtwin.stats.meanmodel import Factor, mean_model
from trialtwin.stats.mmrm import mmrm
from trialtwin.stats.mmrm_result import RepeatedFit

pytestmark = pytest.mark.reference

ARMS = ("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose")
LAST = {"AVISIT": "Week 24"}


@pytest.fixture(scope="module")
def fit(shared: Path) -> RepeatedFit:
    table, _ = pyreadstat.read_xport(str(shared / "data" / "cdiscpilot01" / "adam" / "adqsadas.xpt"))
    observed = (table.ANL01FL == "Y") & (table.ABLFL != "Y") & (table.DTYPE == "")
    rows = table[observed & (table.PARAMCD == "ACTOT") & (table.EFFFL == "Y")]
    factors = {
        "TRTP": Factor.of(list(rows.TRTP.str.strip()), levels=ARMS),
        "AVISIT": Factor.of(list(rows.AVISIT.str.strip()), levels=("Week 8", "Week 16", "Week 24")),
        "SITEGR1": Factor.of(list(rows.SITEGR1)),
    }
    terms = ["SITEGR1", "TRTP*AVISIT", "BASE*AVISIT"]
    model = mean_model(terms, factors=factors, covariates={"BASE": rows.BASE.to_numpy(float)})
    return mmrm(model, rows.CHG.to_numpy(float), subjects=rows.USUBJID.to_numpy(str), visit="AVISIT")


def test_reference_table_14_3_11_likelihood(fit: RepeatedFit) -> None:
    assert (fit.rows, fit.n) == (539, 234)
    assert round(-2 * fit.log_likelihood, 3) == 3087.843


def test_reference_table_14_3_11_week_24(fit: RepeatedFit) -> None:
    means = [fit.least_squares_mean({"TRTP": arm, **LAST}).value for arm in ARMS]
    assert [round(mean, 4) for mean in means] == [2.3291, 1.7352, 1.5009]
    low, high = (fit.difference("TRTP", arm, "Placebo", at=LAST) for arm in ARMS[1:])
    assert (round(high.value, 4), round(high.p, 4)) == (-0.8282, 0.4403)
    assert (round(low.value, 4), round(low.p, 4)) == (-0.5939, 0.5600)


def test_only_the_linear_adjustment_gives_what_sas_printed(fit: RepeatedFit) -> None:
    p = {df: fit.difference("TRTP", ARMS[2], ARMS[0], at=LAST, df=df).p for df in ("Kenward-Roger", "Satterthwaite")}
    assert round(p["Kenward-Roger"], 4) != 0.4403
    assert round(p["Satterthwaite"], 4) == 0.4391
