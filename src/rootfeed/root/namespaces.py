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
    "RDF": "RDataFrame takes trees and ntuples in files",
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
