"""``python extract.py ...`` is ``eigenseg extract ...`` from a checkout."""

import sys

from eigenseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
