"""How much faster two local workers simulate than one.

    uv run python benchmarks/executor.py            # about two minutes with one worker
    uv run python benchmarks/executor.py --quick

The same cells, trials and seed; results are compared byte by byte. The second worker also has to start and import.
"""

import argparse
import time

import numpy as np

from trialtwin.trials.design import Design
from trialtwin.trials.operating import Cell, Characteristic, operating_characteristics
from trialtwin.trials.simulate import Truth
from trialtwin.trials.virtual_population import Normal

METHODS = ("unadjusted", "ancova", "procova")


def cells() -> list[Cell]:
    """Return sixteen scenarios of a trial of 300 patients and five visits."""
    sd = np.array([6.0, 6.3, 6.6, 7.0, 7.5])
    covariance = (0.75 + 0.25 * np.eye(5)) * np.outer(sd, sd)
    plan = Design(
        title="B against A",
        patients=300,
        visits=(0, 56, 112, 168, 224),
        arms=({"name": "A"}, {"name": "B"}),
        endpoint={"name": "change", "better": "lower"},
        leaving={"dropout": {"A": 0.2, "B": 0.2}, "dropout_by_state": 0.3},
    )
    return [
        Cell(
            f"rho {rho} effect {effect} drift {drift}",
            plan,
            Normal(np.linspace(20, 23, 5), covariance, rho=rho, drift=drift),
            Truth("t", (effect,)),
        )
        for rho in (0.0, 0.3, 0.5, 0.7)
        for effect in (0.0, -2.0)
        for drift in (0.0, 1.0)
    ]


def main() -> None:
    """Simulate with one worker, then with two, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    trials = 1000 if parser.parse_args().quick else 8_000
    found: list[list[Characteristic]] = []
    seconds = []
    for workers in (1, 2):
        clock = time.perf_counter()
        found.append(operating_characteristics(cells(), METHODS, trials=trials, seed=1, workers=workers))
        seconds.append(time.perf_counter() - clock)
        print(f"{workers} worker(s): {seconds[-1]:.1f} s for {16 * trials} trials", flush=True)
    print(f"same result: {found[0] == found[1]}; ratio {seconds[0] / seconds[1]:.2f}")


if __name__ == "__main__":
    main()
