"""``python -m pixel2style`` is the command ``pixel2style``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
