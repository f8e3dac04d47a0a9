"""JAX settings that the whole house shares: double precision, and the cache of compiled functions."""

import os
from pathlib import Path

import jax


def enable_float64() -> None:
    """Switch JAX to double precision; reference numbers are matched to seven digits, which single cannot hold."""
    jax.config.update("jax_enable_x64", val=True)  # type: ignore[no-untyped-call]


def enable_compilation_cache() -> None:
    """Keep compiled functions on disk, so that the second run of a study does not wait for the compiler.

    The folder is ``$TRIALTWIN_CACHE``, else ``$XDG_CACHE_HOME/trialtwin``, else ``~/.cache/trialtwin``. It holds
    compiled code, and no data. Where it cannot be made, functions are compiled anew in each process.
    """
    base = os.environ.get("TRIALTWIN_CACHE")
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trialtwin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings = {
        "jax_compilation_cache_dir": str(folder / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    for name, value in settings.items():
        jax.config.update(name, val=value)  # type: ignore[no-untyped-call]
