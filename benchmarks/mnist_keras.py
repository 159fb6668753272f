"""The textbook script: five epochs on MNIST with TensorFlow/Keras. Run by mnist.py in an environment of its own."""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import tensorflow as tf

data = np.load(sys.argv[1])
images, test_images = (data[name].astype("float32") / 255 for name in ("images", "test_images"))
tf.keras.utils.set_random_seed(int(sys.argv[2]))
layers = tf.keras.layers
model = tf.keras.Sequential(
    [
        tf.keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
began = time.perf_counter()
model.fit(images[:48000], data["labels"][:48000], batch_size=32, epochs=5, verbose=0)
seconds = time.perf_counter() - began
accuracy = float(model.evaluate(test_images, data["test_labels"], verbose=0)[1])
print(json.dumps({"seconds": seconds, "accuracy": accuracy, "version": tf.__version__}))
