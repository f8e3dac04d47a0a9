"""Instruments of the compact Alzheimer's model: clinical scales of one latent severity, and biomarkers of its states.

Clinical scales are logistic functions of z = logit(CDR-SB/18). Biomarkers read what stands behind the states in
``apparent``: tau PET, plasma p-tau217 (of amyloid and tau), GFAP (of amyloid), Aβ42/40 (of amyloid) and NfL (of the
speed of decline, not of amyloid: drugs that cleared amyloid left it as it was).
"""

from collections.abc import Mapping
from types import MappingProxyType

import jax.numpy as jnp
from jaxtyping import Array, Float

from trialtwin.diseases.base import AbstractScale, Confidence, Constant, LogisticScale, Prior, StateScale

LINKS = "logistic links of the compact model between scales, fitted to group means"
CAO = "Cao 2026, doi:10.1038/s41540-026-00677-4"
BY_HAND = "set by hand"
SEVERITY, BIOMARKERS = 4, 5  # positions in what is apparent

# concept: terms (weight, intercept, slope), constant, lower, upper, additive and proportional error, its source, step
_LOGISTIC: dict[str, tuple[tuple[tuple[float, float, float], ...], float, float, float, float, float, str, float]] = {
    "CDR-SB": (((18.0, 0.0, 1.0),), 0.0, 0.0, 18.0, 0.52, 0.16, CAO, 0.5),
    "ADAS-Cog11": (((70.0, -0.151, 0.730),), 0.0, 0.0, 70.0, 2.98, 0.07, CAO, 1 / 3),
    "ADAS-Cog13": (((85.0, 0.032, 0.589),), 0.0, 0.0, 85.0, 2.98, 0.07, CAO, 1 / 3),
    "ADAS-Cog14": (((90.0, 0.037, 0.657),), 0.0, 0.0, 90.0, 2.98, 0.07, CAO, 1 / 3),
    "MMSE": (((-30.0, 0.226, 1.159),), 30.0, 0.0, 30.0, 1.5, 0.0, BY_HAND, 1.0),
    "ADCS-MCI-ADL": (((-53.0, -0.006, 0.786),), 53.0, 0.0, 53.0, 3.0, 0.0, BY_HAND, 1.0),
    "ADCS-iADL": (((-59.0, -0.202, 0.960),), 59.0, 0.0, 59.0, 4.0, 0.0, BY_HAND, 1.0),
    "iADRS": (((-85.0, 0.032, 0.589), (-59.0, -0.202, 0.960)), 144.0, 0.0, 144.0, 5.0, 0.0, BY_HAND, 1 / 3),
}
# concept: lower, upper, additive and proportional error, unit, source, provisional
_MEASURED: dict[str, tuple[float, float, float, float, str, str, bool]] = {
    "amyloid-PET": (-50.0, 250.0, 4.47, 0.091, "CL", CAO, False),
    "tau-PET": (0.3, 6.0, 0.0, 0.064, "SUVR", CAO, False),
    "p-tau217": (0.0, 50.0, 0.0, 0.30, "fold of amyloid-negative", BY_HAND, True),
    "GFAP": (0.0, 2000.0, 0.0, 0.30, "pg/mL", BY_HAND, True),
    "Aβ42/40": (0.0, 0.5, 0.0, 0.081, "ratio", CAO, False),
    "NfL": (0.0, 500.0, 0.0, 0.35, "pg/mL", BY_HAND, True),
}
_PLACE = {"amyloid-PET": 0} | {name: BIOMARKERS + i for i, name in enumerate([*_MEASURED][1:])}
_LINKS = {
    c.name: c
    for c in (
        Constant("tau-PET: SUVR without tau", 1.0, "SUVR", BY_HAND, "low", provisional=True),
        Constant("tau-PET: SUVR per unit of tau", 1.2, "SUVR", BY_HAND, "low", provisional=True),
        Constant(
            "p-tau217: fold per unit of driver", 1.2, "", "×2 in Aβ+ unimpaired; by hand", "low", provisional=True
        ),
        Constant("p-tau217: fold per unit of tau", 3.0, "", "×3.5 in Aβ+ impaired; by hand", "low", provisional=True),
        Constant("GFAP without amyloid", 110.0, "pg/mL", BY_HAND, "low", provisional=True),
        Constant("GFAP per unit of driver", 70.0, "pg/mL", "donanemab −12 %; by hand", "low", provisional=True),
        Constant("Aβ42/40 without amyloid", 0.105, "ratio", BY_HAND, "low", provisional=True),
        Constant("Aβ42/40 lost with amyloid", 0.018, "ratio", BY_HAND, "low", provisional=True),
        Constant("Aβ42/40: amyloid at half of the loss", 15.0, "CL", BY_HAND, "low", provisional=True),
        Constant("NfL at the typical speed of decline", 20.0, "pg/mL", BY_HAND, "low", provisional=True),
        Constant("NfL: power of the speed of decline", 0.35, "", BY_HAND, "low", provisional=True),
    )
}


def biomarkers(
    amyloid: Float[Array, ""], driver: Float[Array, ""], tau: Float[Array, ""], speed: Float[Array, ""]
) -> tuple[Float[Array, ""], ...]:
    """Return tau PET, p-tau217, GFAP, Aβ42/40 and NfL as expected; ``speed`` of decline is 1 in a typical patient."""
    k = {name: constant.value for name, constant in _LINKS.items()}
    burden = jnp.maximum(amyloid, 0.0)
    half = k["Aβ42/40: amyloid at half of the loss"]
    return (
        k["tau-PET: SUVR without tau"] + k["tau-PET: SUVR per unit of tau"] * tau,
        1 + k["p-tau217: fold per unit of driver"] * driver + k["p-tau217: fold per unit of tau"] * tau,
        k["GFAP without amyloid"] + k["GFAP per unit of driver"] * driver,
        k["Aβ42/40 without amyloid"] - k["Aβ42/40 lost with amyloid"] * burden / (half + burden),
        # a drug may turn decline round: NfL then stays at a floor
        k["NfL at the typical speed of decline"] * jnp.maximum(speed, 0.01) ** k["NfL: power of the speed of decline"],
    )


def scale_constants() -> tuple[Constant, ...]:
    """Return what the instruments take as given."""
    listed = [*_LINKS.values()]
    for concept, (terms, _, _, _, additive, proportional, source, _) in _LOGISTIC.items():
        for weight, intercept, slope in terms:
            shape = f"{concept}, term of weight {weight:g}"
            listed.append(Constant(f"{shape}: intercept {intercept:g}, slope", slope, "1/z", LINKS, "medium"))
        judged = source == BY_HAND
        confidence: Confidence = "low" if judged else "medium"
        unit = f"points, and {proportional:.0%} of the score"
        name = f"measurement error of {concept}"
        listed.append(Constant(name, additive, unit, source, confidence, provisional=judged))
    for concept, (_, _, additive, proportional, unit, source, judged) in _MEASURED.items():
        confidence = "low" if judged else "medium"
        words = f"{unit}, and {proportional:.1%} of the value"
        name = f"measurement error of {concept}"
        listed.append(Constant(name, additive, words, source, confidence, provisional=judged))
    return tuple(listed)


def own_scale_priors(concept: str) -> tuple[Prior, Prior, Prior]:
    """Return priors of a scale's shift, log between-patient spread of its offset, and log error multiplier."""
    shift, spread, unit = {
        "amyloid-PET": (5.0, 1.0, "CL"),
        "tau-PET": (0.1, 0.1, "SUVR"),
        "p-tau217": (0.5, 0.5, "fold"),
        "GFAP": (20.0, 30.0, "pg/mL"),
        "Aβ42/40": (0.003, 0.003, "ratio"),
        "NfL": (3.0, 5.0, "pg/mL"),
    }.get(concept, (0.5, 0.5, "units of z"))
    log_spread = -0.7 if unit == "units of z" else float(jnp.log(spread))
    return (
        Prior(f"shift of {concept}, {unit}", 0.0, shift, BY_HAND, "low", provisional=True),
        Prior(f"log spread of {concept}, {unit}", log_spread, 0.5, BY_HAND, "low", provisional=True),
        Prior(f"log error multiplier of {concept}", 0.0, 0.25, BY_HAND, "low", provisional=True),
    )


SCALES: Mapping[str, AbstractScale] = MappingProxyType(
    {
        **{
            concept: LogisticScale(
                severity=SEVERITY,
                terms=terms,
                constant=constant,
                lower=lower,
                upper=upper,
                additive=additive,
                proportional=proportional,
                step=step,
            )
            for concept, (terms, constant, lower, upper, additive, proportional, _, step) in _LOGISTIC.items()
        },
        **{
            concept: StateScale(
                index=_PLACE[concept],
                lower=lower,
                upper=upper,
                additive=additive,
                proportional=proportional,
                step=0.0,
            )
            for concept, (lower, upper, additive, proportional, *_) in _MEASURED.items()
        },
    }
)
