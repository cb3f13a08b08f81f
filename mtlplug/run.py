"""What the deepspeed launcher starts: `deepspeed mtlplug/run.py --groups SL+C`.

The same as `mtlplug run`; one command, because the launcher puts `--local_rank` first.
"""

import sys
from pathlib import Path

# A script's own folder comes first on the path and would hide top-level modules by its names.
HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if str(Path(entry or ".").resolve()) != HERE]

from mtlplug.cli import run  # noqa: E402

if __name__ == "__main__":
    run(prog_name="mtlplug/run.py")
