"""Virtual patients of a trial's arm, given its regimen and followed to its visits by the engine.

Arms of a population have the same virtual patients, with the same random effects, so that differences between arms are
those of the drug alone. Courses are kept by the parameters that they depend on: difference quotients ask for most of
them again and again.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import special

from trialtwin.core.errors import ConfigError, MismatchError
from trialtwin.core.finding import Assumption
from trialtwin.core.treatment import AbstractTreatment, NoTreatment
from trialtwin.diseases.alzheimer import Alzheimer
from trialtwin.diseases.base import AbstractDisease, LogisticScale
from trialtwin.drugs.registry import find_drug
from trialtwin.drugs.therapy import Therapy, prescribe
from trialtwin.engine.ensemble import solve_ensemble
from trialtwin.engine.fixed import Fixed
from trialtwin.engine.grid import align
from trialtwin.engine.method import require_solved
from trialtwin.study.replay.endpoints import endpoint_names
from trialtwin.study.replay.entry import SEVERITY_MEAN, Entry, complete, draw_entry
from trialtwin.study.replay.expected import REMOVAL
from trialtwin.study.replay.observe import Courses, Link
from trialtwin.study.replay.parameters import CALIBRATED_DRUGS
from trialtwin.study.replay.readouts import MAIN
from trialtwin.study.replay.spec import Arm, Trial
from trialtwin.twins.system import Course
