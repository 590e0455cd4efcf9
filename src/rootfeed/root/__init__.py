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

Data frames have ROOT's words for columns, cuts and answers; `RDF` has what is in ROOT's namespace of
that name: `FromNumpy`, `FromPandas`, `FromCSV`, `RSnapshotOptions`, `RunGraphs`.

Where ROOT itself is at hand, `RDataLoader` takes its data frames, with C++ in them, too; and `install`
puts the loaders here in the place of ROOT's own, for programs that are not to be edited.

Differences from ROOT, on purpose: every epoch has a new order, also with a seed; all frames of a list
are read; a fixed seed gives the same batches whatever the number of threads; 64-bit integers that
float32 cannot represent are reported; validation rows are not resampled.
"""

from __future__ import annotations

from typing import Any

from rootfeed.root.answers import CutFlow, CutInfo, Result, RunGraphs, Statistic
from rootfeed.root.describing import Description, Displayed
from rootfeed.root.frame import RDataFrame
from rootfeed.root.generators import (
    CreateNumPyGenerators,
    CreatePyTorchGenerators,
    CreateTFDatasets,
    Generator,
)
from rootfeed.root.loader import RDataLoader
from rootfeed.root.namespaces import Namespace, missing
from rootfeed.root.origins import FromCSV, FromNumpy, FromPandas
from rootfeed.root.replacing import replace, restore
from rootfeed.root.session import (
    LEVELS,
    DisableImplicitMT,
    EnableImplicitMT,
    EnableThreadSafety,
    gROOT,
)
from rootfeed.root.snapshot import ESnapshotOutputFormat, RCompressionSetting, RSnapshotOptions

__all__ = [
    "RDF",
    "TMVA",
    "CreateNumPyGenerators",
    "CreatePyTorchGenerators",
    "CreateTFDatasets",
    "CutFlow",
    "CutInfo",
    "Description",
    "DisableImplicitMT",
    "Displayed",
    "EnableImplicitMT",
    "EnableThreadSafety",
    "Experimental",
    "FromCSV",
    "FromNumpy",
    "FromPandas",
    "Generator",
    "RCompressionSetting",
    "RDataFrame",
    "RDataLoader",
    "RSnapshotOptions",
    "Result",
    "RunGraphs",
    "Statistic",
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
RDF = Namespace(
    "ROOT.RDF",
    ESnapshotOutputFormat=ESnapshotOutputFormat,
    FromCSV=FromCSV,
    FromNumpy=FromNumpy,
    FromPandas=FromPandas,
    RSnapshotOptions=RSnapshotOptions,
    RunGraphs=RunGraphs,
)
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
