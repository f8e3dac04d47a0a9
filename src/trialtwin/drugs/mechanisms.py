"""Mechanisms by disease, by name only: drugs and diseases never meet in imports.

A drug file that names one that its disease lacks is told so when it is read. For a disease that is not in this table,
such as one that a user brings, the file says ``way`` itself, and the twin that meets the drug checks the name.
"""

from collections.abc import Mapping
from types import MappingProxyType

from trialtwin.drugs.effect import Way

MECHANISMS: Mapping[str, Mapping[str, Way]] = MappingProxyType(
    {
        "alzheimer": {
            "amyloid_production": "multiply",
            "amyloid_clearance": "add",
            "tau_spread": "multiply",
            "synaptic_loss": "multiply",
            "synaptic_harm": "add",
            "symptoms": "add",
        },
        "alzheimer-cao": {"protofibril_clearance": "multiply", "plaque_clearance": "multiply"},
        "amyloid-turnover": {"amyloid_turnover": "multiply"},
        "amyloid-turnover-kandadi": {"amyloid_turnover": "multiply"},
        "diabetes": {
            "insulin_sensitivity": "multiply",
            "beta_cell_function": "multiply",
            "weight_input": "multiply",
        },
        "bergman": {"insulin_input": "add", "glucose_input": "add"},
        "tumour": {"cell_kill": "add"},
        "tumour-claret": {"cell_kill": "add"},
        "tumour-geng": {"cell_kill": "add", "radiation": "add"},
        "hiv": {"infection": "multiply", "virion_production": "multiply"},
    }
)
