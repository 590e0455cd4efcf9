"""Generators, as ROOT had before 6.40, in the forms of 6.30, 6.36 and 6.38, with one import changed."""

import rootfeed.root as ROOT

tree = "sig_tree"
file = str(ROOT.gROOT.GetTutorialDir()) + "/machine_learning/data/Higgs_data.root"
batch_size, chunk_size, block_size = 128, 20_000, 400

# 6.30: a tree and a file, and cuts beside them.
train, validation = ROOT.TMVA.Experimental.CreateNumPyGenerators(
    tree, file, batch_size, chunk_size, filters=["m_bb > 0.5"], validation_split=0.3
)
print("6.30:", [len(list(generator)) for generator in (train, validation)])

# 6.34 and 6.36: a data frame, which may be named.
frame = ROOT.RDataFrame(tree, file)
train, validation = ROOT.TMVA.Experimental.CreateNumPyGenerators(
    rdataframe=frame, batch_size=batch_size, chunk_size=chunk_size, target="Type", validation_split=0.3
)
x, y = next(train)
print("6.36:", x.shape, y.shape, sum(1 for _ in validation()))

# 6.38: with a block size, and every row in memory, if that is wanted.
train, validation = ROOT.TMVA.Experimental.CreateNumPyGenerators(
    frame, batch_size, chunk_size, block_size, target="Type", validation_split=0.3, load_eager=True
)
for _ in range(2):
    rows = [sum(len(x) for x, _ in generator) for generator in (train, validation)]
print("6.38:", rows, train.number_of_batches)
