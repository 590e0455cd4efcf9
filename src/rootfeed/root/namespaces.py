"""ROOT's namespaces, and what is said of names that are not in them here."""

from __future__ import annotations

from typing import Any

from rootfeed.errors import MissingNameError

__all__ = ["Namespace", "missing"]

_USE = {
    "TFile": "uproot opens files, and RDataFrame(tree, file) reads their trees and ntuples",
    "TChain": "RDataFrame(tree, files) takes several files, and patterns",
    "TTree": "RDataFrame(tree, file) reads trees",
    "RNTupleReader": "RDataFrame(ntuple, file) reads ntuples",
    "gInterpreter": "Define and Filter take expressions and Python functions",
    "std": "Python's lists serve as vectors",
    "RVec": "NumPy's and awkward's arrays serve as vectors",
    "VecOps": "expressions know its functions, as in Define('n', 'Sum(pt > 20)')",
    "MakeCsvDataFrame": "RDF.FromCSV",
    "MakeNumpyDataFrame": "RDF.FromNumpy",
    "MakeRootDataFrame": "RDataFrame(tree, files)",
    "FromRNTuple": "RDataFrame(ntuple, files)",
    "AsNumpy": "the method AsNumpy of RDataFrame",
    "AsRNode": "each method returns an RDataFrame",
    "FromSpec": "RDataFrame(tree, files), several of them for a loader",
    "Experimental": "threads are always used, and RDataFrame takes all files",
    **dict.fromkeys(
        ("Histo1D", "Histo2D", "Histo3D", "HistoND", "Profile1D", "Profile2D", "Graph"),
        "the package hist makes histograms of what AsNumpy returns; Mean, StdDev, Min and Max "
        "need no array",
    ),
    **dict.fromkeys(
        ("Foreach", "ForeachSlot", "Reduce", "Aggregate", "Fill", "Book", "Take", "Cache"),
        "AsNumpy returns columns, and a loader gives batches of them",
    ),
    **dict.fromkeys(
        ("DefineSlot", "DefineSlotEntry", "DefinePerSample", "DefaultValueFor", "Vary"),
        "Define; what differs from file to file is a frame for each",
    ),
    **dict.fromkeys(
        ("FilterAvailable", "FilterMissing", "Partition"), "Filter with an expression of the columns"
    ),
    "Math": "expressions know the functions of <cmath>",
    "TH1D": "the package hist makes histograms of what AsNumpy returns",
    "TH1F": "the package hist makes histograms of what AsNumpy returns",
    "TH2D": "the package hist makes histograms of what AsNumpy returns",
    "TCanvas": "matplotlib draws",
}


def missing(where: str, name: str) -> AttributeError:
    """Return the error for a name that is not here."""
    if name.startswith("__"):
        return AttributeError(name)
    use = f" In its place: {_USE[name]}." if name in _USE else ""
    return MissingNameError(
        f"{where}.{name} is not in rootfeed.root, which has ROOT's data frames and loaders of batches, "
        f"and no more of ROOT.{use} For all of ROOT, write: import ROOT."
    )


class Namespace:
    """One of ROOT's namespaces, with what is here of it."""

    def __init__(self, name: str, **members: Any) -> None:
        self._name = name
        vars(self).update(members)

    def __getattr__(self, name: str) -> Any:
        raise missing(vars(self).get("_name", "ROOT"), name)

    def __repr__(self) -> str:
        return f"<namespace {self._name}>"
