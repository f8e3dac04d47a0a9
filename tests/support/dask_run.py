"""Pieces of work on a local dask cluster of two processes, one of which is killed in the middle: run as a script.

Arguments: folder for pieces, folder for marks. Prints the results as one line.
"""

import sys
from pathlib import Path

from distributed import LocalCluster
from pieces import killed_once

from trialtwin.engine.executor import run_pieces

if __name__ == "__main__":
    folder, marks = map(Path, sys.argv[1:])
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        calls = [(k, str(marks)) for k in range(8)]
        found = run_pieces(killed_once, calls, folder=folder, purpose="a", scheduler=cluster.scheduler_address)
    sys.stdout.write(b" ".join(found).decode())
