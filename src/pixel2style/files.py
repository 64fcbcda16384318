"""Files that the package writes and keeps."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where fetched files lie: ``$PIXEL2STYLE_CACHE``, else ``pixel2style`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("PIXEL2STYLE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixel2style"
