"""Machine-learning batches straight from ROOT files, without ROOT."""

from rootfeed import errors
from rootfeed.frame import Frame, open
from rootfeed.loader import Loader

__all__ = ["Frame", "Loader", "__version__", "errors", "open"]

__version__ = "0.1.0"
