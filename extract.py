"""``python extract.py ...`` is ``eigenseg extract ...`` from a checkout."""

import sys

from eigenseg.cli.interrupts import run_process
from eigenseg.cli.main import main

if __name__ == "__main__":
    run_process(lambda: main(["extract", *sys.argv[1:]]))
