"""A patient's dose records, as the regimen that they describe."""

import math
from collections.abc import Mapping

import numpy as np

from trialtwin.core import cohort
from trialtwin.core.errors import DataError
from trialtwin.drugs.schedule import Phase, Regimen


def regimen_of_records(
    doses: cohort.Doses, patient: int, *, routes: Mapping[int, str] | None = None, per_kg: bool = False
) -> Regimen:
    """Return the regimen that a patient's dose records describe (NONMEM's TIME, AMT, RATE, CMT, already expanded).

    Records at equal intervals with equal amounts become one phase, so that the regimen can be read.

    Parameters
    ----------
    doses
        Of a cohort; amounts in mg.
    patient
        Position of the patient.
    routes
        Route of each compartment, as in ``{1: "SC", 2: "IV"}``; without it, the drug's own route for all.
    per_kg
        Whether amounts are per kg of body weight.

    Raises
    ------
    DataError
        If the patient has no dose, a dose is not above zero, a time is before day 0, or a compartment has no route.
    """
    rows = np.flatnonzero(doses.patient == patient)
    rows = rows[np.argsort(doses.time[rows], kind="stable")]
    if len(rows) == 0:
        raise DataError(f"patient {patient} has no dose records", do="treat this patient as untreated")
    for name, column, fine in (
        ("AMT", doses.amount, doses.amount > 0),
        ("TIME", doses.time, doses.time >= 0),
        ("RATE", doses.duration, doses.duration >= 0),
    ):
        bad = [i for i in rows if not (fine[i] and math.isfinite(column[i]))]
        if bad:
            raise DataError(f"{name} gives {column[bad[0]]:g}", where=f"dose record {bad[0]} of patient {patient}")
    unknown = sorted({int(doses.compartment[i]) for i in rows} - set(routes or {})) if routes is not None else []
    if unknown:
        raise DataError(f"compartment {unknown[0]} has no route", exists=[str(k) for k in routes or {}])
    facts = [
        (
            float(doses.amount[i]),
            float(doses.duration[i]),
            (routes or {}).get(int(doses.compartment[i]), ""),
            float(doses.time[i]),
        )
        for i in rows
    ]
    return Regimen(tuple(_grouped(facts, per_kg=per_kg)))


def _grouped(facts: list[tuple[float, float, str, float]], *, per_kg: bool) -> list[Phase]:
    """Join equal doses at equal intervals."""
    phases: list[Phase] = []
    i = 0
    while i < len(facts):
        amount, duration, route, start = facts[i]
        j, interval = i + 1, 0.0
        while j < len(facts) and facts[j][:3] == facts[i][:3]:
            step = facts[j][3] - facts[j - 1][3]
            if step <= 0 or step < duration or (interval and not math.isclose(step, interval, rel_tol=1e-9)):
                break
            interval, j = step, j + 1
        count = j - i
        phases.append(Phase(amount, per_kg, "mg", duration, interval, count, start, route))
        i = j
    return phases
