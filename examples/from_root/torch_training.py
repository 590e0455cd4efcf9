"""A classifier in PyTorch: a program for ROOT, with one import changed."""

import torch

import rootfeed.root as ROOT

file = str(ROOT.gROOT.GetTutorialDir()) + "/machine_learning/data/Higgs_data.root"
signal = ROOT.RDataFrame("sig_tree", file)
background = ROOT.RDataFrame("bkg_tree", file)

loader = ROOT.Experimental.ML.RDataLoader(
    [signal, background], batch_size=128, batches_in_memory=50, target="Type", set_seed=1
)
train, test = loader.train_test_split(test_size=0.3)

torch.manual_seed(1)
model = torch.nn.Sequential(
    torch.nn.Linear(len(train.train_columns), 60),
    torch.nn.Tanh(),
    torch.nn.Linear(60, 60),
    torch.nn.Tanh(),
    torch.nn.Linear(60, 1),
    torch.nn.Sigmoid(),
)
loss_of = torch.nn.BCELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

for epoch in range(3):
    model.train()
    for x, y in train.as_torch():
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

    model.eval()
    right = rows = 0
    with torch.no_grad():
        for x, y in test.as_torch():
            right += int((model(x).round() == y).sum())
            rows += len(y)
    accuracy = right / rows
    print(f"epoch {epoch}: accuracy {accuracy:.3f}")
