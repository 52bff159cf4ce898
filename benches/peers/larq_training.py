"""Training speed of BiPedalNet in Larq, in samples per second, on random data.

Larq 0.13 needs Keras 2, hence tf_keras and a pinned TensorFlow (Python 3.11):

    python3.11 -m venv venv
    venv/bin/pip install larq==0.13.3 tensorflow-cpu==2.16.2 tf_keras==2.16.0 numpy==1.26.4
    venv/bin/python larq_training.py --threads 2

Settings favour speed: a compiled loop, many steps per call, batched data in
memory, Adam as one fused operation, and no metrics, shuffling, augmentation or
validation. XLA is off.
"""

import argparse
import os
import statistics
import time

# Both are read when TensorFlow is first imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import larq as lq
import numpy as np
import tensorflow as tf

CLASSES = 38
PARAMETERS = 296_992
ROUNDS = 5
STEPS_PER_CALL = 20
BATCHES_IN_MEMORY = 20


def bipedalnet():
    def binary(layer, *size, quantize_input=True, **options):
        return layer(
            *size,
            input_quantizer="ste_sign" if quantize_input else None,
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
            use_bias=False,
            **options,
        )

    convolution, dense = lq.layers.QuantConv2D, lq.layers.QuantDense
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((8, 100, 1)),
            binary(convolution, 32, (3, 3), quantize_input=False),
            layers.MaxPool2D((2, 2)),
            layers.BatchNormalization(scale=False),
            binary(convolution, 64, (1, 3)),
            layers.BatchNormalization(scale=False),
            binary(convolution, 64, (1, 3)),
            layers.BatchNormalization(scale=False),
            layers.Flatten(),
            binary(dense, 32),
            layers.BatchNormalization(scale=False),
            binary(dense, CLASSES),  # softmax is part of the loss
        ]
    )


class RoundTimes(tf.keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


def samples_per_second(batch, seconds):
    """One figure for each round. Together the rounds take about `seconds`."""
    model = bipedalnet()
    if model.count_params() != PARAMETERS:
        raise SystemExit(f"{model.count_params()} parameters, expected {PARAMETERS}")
    model.compile(
        optimizer=tf.keras.optimizers.legacy.Adam(1e-3),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=STEPS_PER_CALL,
        jit_compile=False,
    )
    random = np.random.default_rng(1)
    count = batch * BATCHES_IN_MEMORY
    x = random.standard_normal((count, 8, 100, 1), dtype=np.float32)
    y = random.integers(CLASSES, size=count, dtype=np.int32)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch, drop_remainder=True)
    batches = batches.cache().repeat().prefetch(4)

    def run(steps, rounds):
        times = RoundTimes()
        model.fit(
            batches, epochs=rounds, steps_per_epoch=steps, callbacks=[times], verbose=0
        )
        return [steps * batch / s for s in times.seconds]

    # The first round traces the graph, the second sizes the measured ones.
    warm = run(STEPS_PER_CALL, 2)[-1]
    calls = max(1, round(warm * seconds / ROUNDS / batch / STEPS_PER_CALL))
    return run(calls * STEPS_PER_CALL, ROUNDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="measured time for each batch size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    options = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    for batch in options.batch:
        rounds = samples_per_second(batch, options.seconds)
        print(
            f"larq batch={batch} samples_per_second={statistics.median(rounds):.0f} "
            f"lowest={min(rounds):.0f} highest={max(rounds):.0f} "
            f"rounds={len(rounds)} threads={options.threads}",
            flush=True,
        )


if __name__ == "__main__":
    main()
