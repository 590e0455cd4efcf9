"""ROOT's own data-loading API over the same engine.

Code written for the machine-learning data loader of ROOT 6.38 runs with one import changed::

    import rootfeed.root as ROOT

    df = ROOT.RDataFrame("sig_tree", "Higgs_data.root")
    train, validation = ROOT.TMVA.Experimental.CreatePyTorchGenerators(
        df, batch_size, chunk_size, block_size, columns=columns, target=target, validation_split=0.3
    )

Calls without a block size, as in ROOT 6.36, work too. Not here: calls with the names of a tree and a
file, as before 6.34; ``CreateTFDatasets``; and the class ``RDataLoader``, which took the place of these
functions in ROOT 6.40.

Differences from ROOT, on purpose: every epoch has a new order, also with a seed; all frames of a list
are read; a fixed seed gives the same batches whatever the number of threads; 64-bit integers that
float32 cannot represent are reported.
"""

from __future__ import annotations

from rootfeed.root.frame import RDataFrame, Result
from rootfeed.root.generators import CreateNumPyGenerators, CreatePyTorchGenerators, Generator

__all__ = [
    "TMVA",
    "CreateNumPyGenerators",
    "CreatePyTorchGenerators",
    "Generator",
    "RDataFrame",
    "Result",
]


class TMVA:
    """Where ROOT up to 6.38 has these functions."""

    class Experimental:
        """Where ROOT up to 6.38 has these functions."""

        CreateNumPyGenerators = staticmethod(CreateNumPyGenerators)
        CreatePyTorchGenerators = staticmethod(CreatePyTorchGenerators)
