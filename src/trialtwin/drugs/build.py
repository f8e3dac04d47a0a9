"""From what a drug file says to parts that compute: parameters in days, mg and litres, compartments, effects."""

from collections.abc import Mapping, Sequence

import numpy as np

from trialtwin.core.errors import ConfigError
from trialtwin.drugs.averaged import averaged as slow
from trialtwin.drugs.drug import DEPOT_ROUTES
from trialtwin.drugs.effect import Effect, Indirect, Shape, Way, points_to_latent
from trialtwin.drugs.mechanisms import MECHANISMS
from trialtwin.drugs.number import UNITS, Number
from trialtwin.drugs.page import AnyEffect, DoseRate, FullTarget, Page, QuasiTarget, SymptomaticEffect, Varying
from trialtwin.drugs.pk import AbstractPharmacokinetics, Compartments
from trialtwin.drugs.quantity import Influence, Quantities, Quantity, together
from trialtwin.drugs.target import TargetMediated

_PK = {
    "CL": "clearance",
    "Q": "clearance",
    "V": "volume",
    "V1": "volume",
    "V2": "volume",
    "ka": "rate",
    "F": "none",
}
_TARGET = {
    "kdeg": "rate",
    "kint": "rate",
    "koff": "rate",
    "q_in": "clearance",
    "q_out": "clearance",
    "V_site": "volume",
}
_EFFECT = {"emax": "size", "slope": "size", "points": "size", "ec50": "half", "h": "power", "width": "width"}


def quantity(name: str, number: Number, value: float, table: Varying, key: str) -> Quantity:
    """Return a parameter with its median, spread and covariates."""
    influences = tuple(
        Influence(
            c.concept,
            c.form,
            c.level,
            np.array(c.value, dtype=np.float64),
            np.array(c.centre, dtype=np.float64),
            np.array(c.centre if c.missing is None else c.missing, dtype=np.float64),
        )
        for c in table.covariate
        if c.of == key
    )
    return Quantity(name, np.array(value * number.median_factor, dtype=np.float64), np.array(number.spread), influences)


def compartments(page: Page, inputs: tuple[str, ...], *, averaged: bool) -> AbstractPharmacokinetics:
    """Return the pharmacokinetics for doses into these places.

    Raises
    ------
    ConfigError
        If a dose goes into a depot and the file has no rate of absorption, or if a target is to be averaged.
    """
    items, names, pairs = _disposition(page, inputs)
    states = ("depot",) * ("depot" in inputs) + ("central",) + ("peripheral",) * ("V2" in names)
    if "depot" in inputs and "ka" not in names:
        raise ConfigError(
            f"{page.name} has no rate of absorption 'ka': it can only be given into the blood",
            do="write IV in the regimen, or give ka and F in [pk]",
        )
    if page.target is None:
        linear = Compartments(states=states, inputs=inputs, quantities=together(items, pairs, where=page.name))
        return slow(linear) if averaged else linear
    if averaged:
        raise ConfigError(
            f"{page.name} is bound by its target: the average of its doses does not give its average effect",
            do="use detail = 'full'",
        )
    target = page.target
    items += _binding(target)
    correlations = {**pairs, **{c.of: c.value for c in target.correlation}}
    site = target.site == "site"
    quasi = isinstance(target, QuasiTarget)
    states += ("site",) * site + ("target",) + ("complex",) * (not quasi)
    quantities = together(items, correlations, where=page.name)
    return TargetMediated(states=states, inputs=inputs, quasi=quasi, site=site, quantities=quantities)


def _disposition(
    page: Page, inputs: tuple[str, ...]
) -> tuple[list[Quantity], set[str], Mapping[tuple[str, str], float]]:
    """Return parameters of the compartments that these inputs need, their names, and their correlations."""
    if isinstance(page.pk, DoseRate):
        life = page.pk.half_life
        # with clearance 1, the amount times ln 2/half-life is the dose per day, smoothed
        volume = life.internal("time") / np.log(2.0)
        one = Quantity("CL", np.array(1.0), np.array(0.0))
        return [one, quantity("V1", life, volume, page.pk, "half_life")], {"CL", "V1"}, {}
    items = []
    for key, number in page.pk.numbers():
        if key in ("ka", "F") and "depot" not in inputs:
            continue
        items.append(quantity("V1" if key == "V" else key, number, number.internal(_PK[key]), page.pk, key))
    names = {item.name for item in items}
    renamed = {"V": "V1"}
    pairs = {(renamed.get(c.of[0], c.of[0]), renamed.get(c.of[1], c.of[1])): c.value for c in page.pk.correlation}
    return items, names, {pair: value for pair, value in pairs.items() if set(pair) <= names}


def _binding(target: FullTarget | QuasiTarget) -> list[Quantity]:
    """Return parameters of the target, in mg/L of drug equivalents: 1 nmol/L is molar mass · 1e-6 mg/L."""
    per_nanomole = target.molar_mass.internal("molar mass") * 1e-6
    items = []
    for key, number in target.numbers():
        if key == "molar_mass":
            continue
        if key in ("R0", "Kss"):
            value = number.internal("molar") * per_nanomole
        elif key == "kon":
            value = number.internal("binding") / per_nanomole
        else:
            value = number.internal(_TARGET[key])
        items.append(quantity(key, number, value, target, key))
    return items


def effect_of(page: Page, acting: AnyEffect, disease: str) -> Effect:
    """Return one effect, with its parameters by their role: size, half, power, width, onset, turnover."""
    items: list[Quantity] = []
    shape: Shape
    if isinstance(acting, SymptomaticEffect):
        scale, shape = acting.scale, "emax"
        shift = points_to_latent(
            acting.points.value, scale.upper.value, scale.intercept.value, scale.slope.value, scale.at.value
        )
        half = acting.half.value
        items.append(quantity("size", acting.points, shift * (1 + half), acting, "points"))
        items.append(quantity("half", acting.reference, half * _driver(acting.reference), acting, "reference"))
    else:
        shape = acting.model
        for key, role in _EFFECT.items():
            number = getattr(acting, key, None)
            if number is not None:
                value = _driver(number) if key == "ec50" else number.value
                items.append(quantity(role, number, value, acting, key))
    if acting.onset is not None:
        # a rate: its lognormal spread is that of the half-life
        items.append(quantity("onset", acting.onset, np.log(2.0) / acting.onset.internal("time"), acting, "onset"))
    if acting.kout is not None:
        items.append(quantity("turnover", acting.kout, acting.kout.internal("rate"), acting, "kout"))
    way: Way = MECHANISMS.get(disease, {}).get(acting.mechanism) or acting.way or "add"
    indirect: Indirect = acting.indirect or ""
    pairs = {(_role(c.of[0]), _role(c.of[1])): c.value for c in acting.correlation}
    quantities: Quantities = together(items, pairs, where=f"{page.name}, {acting.mechanism}")
    return Effect(
        acting.mechanism,
        way,
        acting.direction == "lowers",
        shape,
        acting.driver,
        acting.onset is not None,
        indirect,
        quantities,
    )


def _role(key: str) -> str:
    return {**_EFFECT, "reference": "half", "kout": "turnover"}.get(key, key)


def _driver(number: Number) -> float:
    """Return what is compared with a driver, in µg/mL, dose per day, or as a share."""
    factors = {unit: factor for kind in ("concentration", "dose rate", "none") for unit, factor in UNITS[kind].items()}
    return number.value * factors[number.unit]


def inputs_of(page: Page, routes: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the places where doses go, and the position of each route's place among them."""
    places = [
        "depot" if (route or page.route) in DEPOT_ROUTES and not isinstance(page.pk, DoseRate) else "central"
        for route in routes
    ]
    inputs = tuple(dict.fromkeys(places))
    return inputs, tuple(inputs.index(place) for place in places)
