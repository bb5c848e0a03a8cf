"""``python evaluate.py ...`` is ``eigenseg evaluate ...`` from a checkout."""

import sys

from eigenseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
