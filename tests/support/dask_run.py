"""Pieces of work on a local dask cluster of two processes, one of which is killed in the middle: run as a script.

Arguments: folder for pieces, folder for marks; without the second, one piece kills every worker that tries it. Prints
the results as one line, or the error.
"""

import sys
from pathlib import Path

from distributed import LocalCluster
from pieces import always_killed, killed_once

from trialtwin.core.errors import MachineError
from trialtwin.engine.executor import run_pieces

if __name__ == "__main__":
    folder, *marks = sys.argv[1:]
    function = killed_once if marks else always_killed
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        calls = [(k, *marks) for k in range(8)]
        try:
            found = run_pieces(function, calls, folder=Path(folder), purpose="a", scheduler=cluster.scheduler_address)
        except MachineError as error:
            found = [str(error).encode()]
    sys.stdout.write(b" ".join(found).decode())
