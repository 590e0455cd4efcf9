"""Cuts, and vectors as columns: a program for ROOT, with one import changed."""

import rootfeed.root as ROOT

folder = ROOT.gROOT.GetTutorialDir().Data() + "/machine_learning"
frame = (
    ROOT.RDataFrame("test_tree", folder + "/ml_dataloader_filters_vectors_hvector.root")
    .Filter("f1 > 30", "above 30")
    .Filter("f2 < 70", "below 70")
    .Filter("f3 == true", "true")
)

loader = ROOT.Experimental.ML.RDataLoader(
    frame, batch_size=5, max_vec_sizes={"f4": 3, "f5": 2, "f6": 1}, shuffle=False
)
train, test = loader.train_test_split(test_size=0.3)

print(f"columns: {train.columns}")
for name, side in (("training", train), ("test", test)):
    print(f"{name}: {[x.shape for x in side.as_numpy()]}")
frame.Report().Print()
