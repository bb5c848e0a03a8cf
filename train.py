"""``python train.py ...`` is ``eigenseg train ...`` from a checkout."""

import sys

from eigenseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
