"""Fixtures of the report's tests."""

import pytest

from trialtwin.core.dossier import Dossier
from trialtwin.core.finding import Finding

from .sample_dossier import build_dossier


@pytest.fixture(scope="session")
def dossier() -> Dossier:
    """Return a dossier with everything in it."""
    return build_dossier()


@pytest.fixture(scope="session")
def findings(dossier: Dossier) -> dict[str, Finding]:
    """Return the dossier's findings by their identifiers."""
    return {finding.id: finding for finding in dossier.findings}
