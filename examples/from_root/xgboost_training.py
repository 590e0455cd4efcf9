"""Boosted trees in XGBoost: a program for ROOT, with one import changed."""

from xgboost import XGBClassifier

import rootfeed.root as ROOT

file = str(ROOT.gROOT.GetTutorialDir()) + "/machine_learning/data/Higgs_data.root"
features = ["m_bb", "m_wbb", "m_wwbb", "m_lv"]
signal = ROOT.RDataFrame("sig_tree", file).Filter("m_bb > 0", "all").Define("label", "1.0")
background = ROOT.RDataFrame("bkg_tree", file).Filter("m_bb > 0", "all").Define("label", "0.0")

counts = [frame.Count().GetValue() for frame in (signal, background)]
rows = sum(counts)
signal = signal.Define("weight", f"{rows}.0 / {counts[0]}.0")
background = background.Define("weight", f"{rows}.0 / {counts[1]}.0")

loader = ROOT.Experimental.ML.RDataLoader(
    [signal, background],
    batch_size=rows,  # each side is one batch
    columns=features,
    target="label",
    weights="weight",
    drop_remainder=False,
    set_seed=42,
)
train, test = loader.train_test_split(test_size=0.5)
x, y, w = next(iter(train.as_numpy()))
model = XGBClassifier(max_depth=3, n_estimators=100)
model.fit(x, y.ravel(), sample_weight=w.ravel())

x, y, _ = next(iter(test.as_numpy()))
accuracy = (model.predict(x) == y.ravel()).mean()
print(f"{len(y)} rows, accuracy {accuracy:.3f}")
