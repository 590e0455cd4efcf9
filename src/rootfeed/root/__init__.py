"""ROOT's own data-loading API over the same engine.

Code written for the machine-learning data loader of ROOT runs with one import changed::

    import rootfeed.root as ROOT

    df = ROOT.RDataFrame("sig_tree", "Higgs_data.root")
    loader = ROOT.Experimental.ML.RDataLoader(df, batch_size=128, target="Type")
    train, test = loader.train_test_split(test_size=0.3)
    for x, y in train.as_torch():
        ...

So does code for the functions that came before, in the forms of ROOT 6.30 to 6.38:
`CreateNumPyGenerators`, `CreatePyTorchGenerators` and `CreateTFDatasets`. They are here and, as in ROOT,
in ``TMVA.Experimental`` and ``Experimental.ML``.

Where ROOT itself is at hand, `RDataLoader` takes its data frames, with C++ in them, too; and `install`
puts the loaders here in the place of ROOT's own, for programs that are not to be edited.

Differences from ROOT, on purpose: every epoch has a new order, also with a seed; all frames of a list
are read; a fixed seed gives the same batches whatever the number of threads; 64-bit integers that
float32 cannot represent are reported; validation rows are not resampled.
"""

from __future__ import annotations

from typing import Any

from rootfeed.root.frame import RDataFrame, Result
from rootfeed.root.generators import (
    CreateNumPyGenerators,
    CreatePyTorchGenerators,
    CreateTFDatasets,
    Generator,
)
from rootfeed.root.loader import RDataLoader
from rootfeed.root.namespaces import Namespace, missing
from rootfeed.root.replacing import replace, restore
from rootfeed.root.session import (
    LEVELS,
    DisableImplicitMT,
    EnableImplicitMT,
    EnableThreadSafety,
    gROOT,
)

__all__ = [
    "TMVA",
    "CreateNumPyGenerators",
    "CreatePyTorchGenerators",
    "CreateTFDatasets",
    "DisableImplicitMT",
    "EnableImplicitMT",
    "EnableThreadSafety",
    "Experimental",
    "Generator",
    "RDataFrame",
    "RDataLoader",
    "Result",
    "gErrorIgnoreLevel",
    "gROOT",
    "install",
    "uninstall",
]

gErrorIgnoreLevel = LEVELS["kUnset"]  # noqa: N816  # as ROOT calls it
"""May be set, and changes nothing: what there is to say are Python's warnings."""

globals().update(LEVELS)

_LOADING = {
    "RDataLoader": RDataLoader,
    "CreateNumPyGenerators": CreateNumPyGenerators,
    "CreatePyTorchGenerators": CreatePyTorchGenerators,
    "CreateTFDatasets": CreateTFDatasets,
}
Experimental = Namespace("ROOT.Experimental", ML=Namespace("ROOT.Experimental.ML", **_LOADING))
TMVA = Namespace("ROOT.TMVA", Experimental=Namespace("ROOT.TMVA.Experimental", **_LOADING))


def install() -> None:
    """Let ROOT's own names of its loaders mean those here, until `uninstall`.

    For programs that are not to be edited: they make their data frames in ROOT, and get our batches.
    Names that the installed release of ROOT does not have stay missing.

    Raises
    ------
    ArgumentError
        Where ROOT is not installed.
    """
    replace(_LOADING)


def uninstall() -> None:
    """Let ROOT's names mean again what they meant before `install`."""
    restore()


def __getattr__(name: str) -> Any:
    raise missing("ROOT", name)
