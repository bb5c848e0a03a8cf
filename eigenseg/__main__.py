"""``python -m eigenseg ...`` is ``eigenseg ...``."""

import sys

from eigenseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
