"""Starts the ranks of a run as launchers do, seven seconds of a processor sooner than deepspeed.

`python plain_launcher.py RANKS PORT SCRIPT OPTION...`; ends with the highest exit code.
"""

import os
import subprocess
import sys

if __name__ == "__main__":
    ranks, port, *words = sys.argv[1:]
    where = {"WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, *words, f"--local_rank={rank}"],
            env=os.environ | where | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in map(str, range(int(ranks)))
    ]
    sys.exit(max(process.wait() for process in processes))
