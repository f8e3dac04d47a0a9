"""Made-up drugs that a target binds: in full, in quasi-steady state, and at a site outside the blood."""

FACT = 'source = "test", confidence = "low"'
_HEAD = f"""
name = "bound"
label = "Bound"
kind = "test"
route = "IV"
regimen = "30 mg q4w x 2"
[sources]
test = "made up"
[pk]
model = "two-compartment"
CL = {{ value = 0.2, unit = "L/d", {FACT} }}
V1 = {{ value = 3.0, unit = "L", {FACT} }}
Q = {{ value = 0.5, unit = "L/d", {FACT} }}
V2 = {{ value = 3.0, unit = "L", {FACT} }}
[target]
molar_mass = {{ value = 150000, unit = "g/mol", {FACT} }}
R0 = {{ value = 5, unit = "nmol/L", {FACT} }}
kdeg = {{ value = 0.2, unit = "1/d", {FACT} }}
kint = {{ value = 0.5, unit = "1/d", {FACT} }}
"""
_EFFECT = f"""
[[effect]]
mechanism = "tau_spread"
direction = "lowers"
model = "linear"
driver = "occupancy"
slope = {{ value = 0.4, {FACT} }}
"""
_RATES = f"""
model = "full"
kon = {{ value = 10, unit = "1/(nM d)", {FACT} }}
koff = {{ value = 5, unit = "1/d", {FACT} }}
"""
BOUND = _HEAD + _RATES + _EFFECT
# Kss = (koff + kint)/kon
QUASI = _HEAD + f'model = "quasi-steady-state"\nKss = {{ value = 0.55, unit = "nmol/L", {FACT} }}' + _EFFECT
SITE = (
    _HEAD
    + _RATES
    + f"""
site = "site"
q_in = {{ value = 0.001, unit = "L/d", {FACT} }}
q_out = {{ value = 0.5, unit = "L/d", {FACT} }}
V_site = {{ value = 0.2, unit = "L", {FACT} }}
"""
    + _EFFECT
)
