"""Batches as NumPy arrays: a program for ROOT, with one import changed."""

import rootfeed.root as ROOT

file = str(ROOT.gROOT.GetTutorialDir()) + "/machine_learning/data/Higgs_data.root"
frame = ROOT.RDataFrame("sig_tree", file)

loader = ROOT.Experimental.ML.RDataLoader(frame, 128, target="Type", shuffle=True, drop_remainder=True)
train, test = loader.train_test_split(test_size=0.3)

for epoch in range(2):
    for name, side in (("training", train), ("test", test)):
        shapes = {(x.shape, y.shape) for x, y in side.as_numpy()}
        print(f"epoch {epoch}, {name}: {side.num_batches} batches of {shapes}")
