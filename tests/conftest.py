"""Fixtures that every test may use."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Shapes and types of annotations are checked wherever the tests lead, before any of these modules is imported. Modules
# of pydantic models check themselves, and beartype cannot read their validators.
CHECKED = (
    *(
        f"trialtwin.core.{name}"
        for name in ("arrays", "cohort", "files", "trajectories", "treatment", "twin", "variables")
    ),
    *(f"trialtwin.{room}" for room in ("data", "diseases", "engine", "infer", "report", "stats", "trials", "twins")),
    "trialtwin.validate",
    *(f"trialtwin.study.{name}" for name in ("ard", "example", "fit", "init", "judge", "prepare", "results", "review")),
)
install_import_hook(CHECKED, "shape_checks.checked")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data and reference numbers that lies beside the repository, or skip."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real data and reference numbers), which is absent")
    return SHARED


MAPPED = 20_000  # regions of memory; the system's limit is often 65,530, and beyond it the compiler aborts the process


@pytest.fixture(autouse=True, scope="module")
def _bounded_compilations() -> Iterator[None]:
    """Forget compiled functions after a module where there are very many: each holds regions of memory of its own."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPPED:
        import jax

        jax.clear_caches()
        gc.collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --slow."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests unless --slow was given."""
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: give --slow to run it"))
