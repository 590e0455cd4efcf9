"""Two classes of different sizes, resampled: a program for ROOT, with one import changed."""

import rootfeed.root as ROOT

file = str(ROOT.gROOT.GetTutorialDir()) + "/machine_learning/data/Higgs_data.root"
large = ROOT.RDataFrame("bkg_tree", file)
small = ROOT.RDataFrame("sig_tree", file).Filter("m_bb > 1.2", "few")

for kind in ("undersampling", "oversampling"):
    loader = ROOT.Experimental.ML.RDataLoader(
        [large, small],
        batch_size=256,
        columns=["m_bb", "m_wbb", "Type"],
        target="Type",
        set_seed=42,
        drop_remainder=False,
        load_eager=True,
        sampling_type=kind,
        sampling_ratio=0.5,
    )
    train, test = loader.train_test_split(test_size=0.2)
    of_large = of_small = 0
    for _, y in train.as_numpy():
        of_small += int((y == 1).sum())
        of_large += int((y == 0).sum())
    print(f"{kind}: {of_large} + {of_small} rows, {of_small / of_large:.3f}")
