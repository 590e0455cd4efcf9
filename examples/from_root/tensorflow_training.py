"""A classifier in TensorFlow: a program for ROOT, with one import changed."""

import tensorflow as tf

import rootfeed.root as ROOT

file = str(ROOT.gROOT.GetTutorialDir()) + "/machine_learning/data/Higgs_data.root"
frame = ROOT.RDataFrame("sig_tree", file)

loader = ROOT.Experimental.ML.RDataLoader(frame, 128, 50, target=["Type"], drop_remainder=True)
train, test = loader.train_test_split(test_size=0.3)

model = tf.keras.Sequential(
    [
        tf.keras.layers.Input(shape=(len(train.train_columns),)),
        tf.keras.layers.Dense(60, activation="tanh"),
        tf.keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
epochs = 2
history = model.fit(
    train.as_tensorflow().repeat(epochs),
    steps_per_epoch=train.num_batches,
    validation_data=test.as_tensorflow().repeat(epochs),
    validation_steps=test.num_batches,
    epochs=epochs,
)
