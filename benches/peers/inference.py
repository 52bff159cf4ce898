"""Seconds per window on one thread in other engines. `compare.py inference` runs this.

    inference.py convert FOLDER                    writes the models that this environment supports
    inference.py SIDE FOLDER BATCH SECONDS         prints the seconds per window

BiPedalNet has 38 classes and random weights. Larq Compute Engine runs only convolutions in binary, so
its dense layers are convolutions over the whole input. LiteRT runs the same layers in int8, and two
networks of our size. ONNX Runtime runs the same layers in float32. ONNX Runtime and PyTorch also run
IDNet, the float network of the published table. The fastest of an engine's settings counts.
"""

import ctypes
import multiprocessing
import os
import platform
import struct
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

BATCHES = (1, 32)
CLASSES = 38
random = np.random.default_rng(1)


def keras_model(batch, binary):
    import larq as lq
    import tensorflow as tf

    layers = tf.keras.layers

    def convolution(filters, kernel, first=False):
        if not binary:
            return layers.Conv2D(filters, kernel, use_bias=False)
        return lq.layers.QuantConv2D(
            filters,
            kernel,
            input_quantizer=None if first else "ste_sign",
            kernel_quantizer="ste_sign",
            use_bias=False,
        )

    # Int8 layers have no signs between them. ReLU is the cheapest activation there.
    norm = [lambda: layers.BatchNormalization(scale=False)]
    norm += [] if binary else [layers.ReLU]
    stack = [layers.Input((8, 100, 1), batch_size=batch), convolution(32, (3, 3), first=True)]
    pool = layers.MaxPool2D((2, 2))
    # In int8, the norm is then part of the convolution.
    stack += [pool, *(make() for make in norm)] if binary else [*(make() for make in norm), pool]
    for filters, kernel in ((64, (1, 3)), (64, (1, 3)), (32, (3, 45))):
        stack += [convolution(filters, kernel), *(make() for make in norm)]
    stack += [convolution(CLASSES, (1, 1)), layers.Flatten()]
    return tf.keras.Sequential(stack)


def keras_idnet(batch):
    import tensorflow as tf

    layers = tf.keras.layers
    stack = [layers.Input((8, 200, 1), batch_size=batch), layers.Conv2D(20, (1, 10))]
    stack += [layers.Conv2D(40, (4, 10), padding="same", activation="tanh")]
    stack += [layers.MaxPool2D((2, 4)), layers.Flatten()]
    stack += [layers.Dense(40, activation="tanh"), layers.Dense(CLASSES)]
    return tf.keras.Sequential(stack)


# Networks that have as many bytes in int8 as ours have. `examples/strangers.rs` trains them. A norm has
# positive factors, so it may come before a pool. LiteRT then makes it part of the convolution.


def keras_dense(batch):
    import tensorflow as tf

    layers = tf.keras.layers
    stack = [layers.Input((8, 100, 1), batch_size=batch)]
    for filters, kernel, pool in ((16, (3, 3), (2, 2)), (24, (1, 3), (1, 2)), (32, (1, 3), (1, 2))):
        stack += [layers.Conv2D(filters, kernel, use_bias=False)]
        stack += [layers.BatchNormalization(scale=False), layers.MaxPool2D(pool)]
        stack += [layers.Activation("tanh")]
    stack += [layers.Flatten(), layers.Dense(32), layers.Dense(CLASSES)]
    return tf.keras.Sequential(stack)


def keras_means(batch):
    import tensorflow as tf

    layers = tf.keras.layers
    values = window = layers.Input((8, 100, 1), batch_size=batch)
    for filters, kernel, pool in ((16, (3, 3), (2, 2)), (32, (1, 3), (1, 2)), (96, (3, 3), None)):
        values = layers.Conv2D(filters, kernel, use_bias=False)(values)
        values = layers.BatchNormalization(scale=False)(values)
        values = layers.MaxPool2D(pool)(values) if pool else values
        values = layers.Activation("tanh")(values)
    means = layers.Flatten()(layers.AveragePooling2D((1, 21))(values))
    # The deflation.
    along = layers.Dense(96)(layers.Dense(16)(means))
    return tf.keras.Model(window, layers.Subtract()([means, along]))


def int8(model):
    """Converts a model to LiteRT's format."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    window = lambda: random.standard_normal(model.input_shape, dtype=np.float32)
    converter.representative_dataset = lambda: ([window()] for _ in range(20))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def convert_tensorflow(folder):
    import larq_compute_engine as lce

    for batch in BATCHES:
        model = lce.convert_keras_model(keras_model(batch, binary=True))
        (folder / f"lce-{batch}.tflite").write_bytes(model)
        for name, model in (
            ("int8", keras_model(batch, binary=False)),
            ("idnet", keras_idnet(batch)),
            ("dense", keras_dense(batch)),
            ("means", keras_means(batch)),
        ):
            (folder / f"{name}-{batch}.tflite").write_bytes(int8(model))


class Graph:
    """Builds an ONNX model: a chain of nodes that starts at `window`."""

    def __init__(self):
        self.nodes, self.weights, self.last = [], [], "window"

    def add(self, kind, *parameters, **attributes):
        from onnx import helper, numpy_helper

        names = [f"w{len(self.weights) + at}" for at in range(len(parameters))]
        self.weights.extend(map(numpy_helper.from_array, parameters, names))
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *names], [output], **attributes))
        self.last = output

    def save(self, path, samples):
        import onnx
        from onnx import TensorProto, helper

        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [value("window", TensorProto.FLOAT, ["batch", 1, 8, samples])],
            [value(self.last, TensorProto.FLOAT, ["batch", CLASSES])],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))


def convert_onnx(folder):
    bipedalnet, idnet = Graph(), Graph()
    add = bipedalnet.add

    def signs(*shape):
        return np.sign(random.standard_normal(shape)).astype(np.float32)

    def norm(channels):
        values = [np.full(channels, value, np.float32) for value in (1.0, 0.1, 0.2, 3.0)]
        add("BatchNormalization", *values)
        add("Sign")

    add("Conv", signs(32, 1, 3, 3))
    add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    norm(32)
    add("Conv", signs(64, 32, 1, 3))
    norm(64)
    add("Conv", signs(64, 64, 1, 3))
    norm(64)
    add("Flatten")
    add("MatMul", signs(8640, 32))
    norm(32)
    add("MatMul", signs(32, CLASSES))
    bipedalnet.save(folder / "float.onnx", 100)

    def normal(*shape):
        return random.standard_normal(shape, dtype=np.float32) / np.float32(shape[-1])

    idnet.add("Conv", normal(20, 1, 1, 10), normal(20))
    idnet.add("Conv", normal(40, 20, 4, 10), normal(40), pads=[1, 4, 2, 5])
    idnet.add("Tanh")
    idnet.add("MaxPool", kernel_shape=[2, 4], strides=[2, 4])
    idnet.add("Flatten")
    idnet.add("Gemm", normal(40 * 4 * 47, 40), normal(40))
    idnet.add("Tanh")
    idnet.add("Gemm", normal(40, CLASSES), normal(CLASSES))
    idnet.save(folder / "idnet.onnx", 200)


def lce(folder, batch, seconds):
    from itertools import product

    from larq_compute_engine.tflite.python.interpreter import Interpreter

    model = (folder / f"lce-{batch}.tflite").read_bytes()
    runs = {}
    for reference, indirect, xnnpack in product((False, True), repeat=3):
        interpreter = Interpreter(model, 1, reference, indirect, xnnpack)
        window = random.standard_normal((batch, 8, 100, 1), dtype=np.float32)
        run = lambda interpreter=interpreter, x=[window]: interpreter.interpreter.predict(x)
        try:
            runs[run] = timed(run, 0.3)
        except Exception:  # this setting cannot run the model
            continue
    return timed(min(runs, key=runs.get), seconds)


def litert(folder, batch, seconds, model="int8", samples=100):
    def alone(amx, seconds):
        # What a process was refused, it never gets back.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as process:
            arguments = (folder / f"{model}-{batch}.tflite", (batch, 8, samples, 1), amx, seconds)
            return process.submit(interpreted, *arguments).result()

    settings = (True, False) if platform.machine() == "x86_64" else (True,)
    return alone(min(settings, key=lambda amx: alone(amx, 0.3)), seconds)


def interpreted(path, shape, amx, seconds):
    if not amx:
        refuse_amx()
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    window = random.integers(-128, 128, shape, dtype=np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
    return timed(interpreter.invoke, seconds)


def refuse_amx():
    """Lets Linux refuse the matrix unit to this process. LiteRT uses it wherever it is, but it is slow
    on small layers."""
    arch_prctl, request_unit = 158, 0x1023
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050001
    filter_steps = (
        (load, 0, 0, 0),
        (equal, 0, 3, arch_prctl),
        (load, 0, 0, 16),
        (equal, 0, 1, request_unit),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in filter_steps))
    program = struct.pack("HxxxxxxP", len(filter_steps), ctypes.addressof(code))
    no_new_privileges, seccomp, by_filter = 38, 22, 2
    libc = ctypes.CDLL(None)
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(seccomp, by_filter, program, 0, 0):
        raise OSError("Linux does not take the filter")


def litert_idnet(folder, batch, seconds):
    return litert(folder, batch, seconds, "idnet", 200)


def litert_dense(folder, batch, seconds):
    return litert(folder, batch, seconds, "dense")


def litert_means(folder, batch, seconds):
    return litert(folder, batch, seconds, "means")


def onnxruntime(folder, batch, seconds, model="float.onnx", samples=100):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / model), options)
    window = random.standard_normal((batch, 1, 8, samples), dtype=np.float32)
    return timed(lambda: session.run(None, {"window": window}), seconds)


def onnxruntime_idnet(folder, batch, seconds):
    return onnxruntime(folder, batch, seconds, "idnet.onnx", 200)


def torch(_, batch, seconds):
    import torch
    from torch import nn

    torch.set_num_threads(1)
    idnet = nn.Sequential(
        nn.Conv2d(1, 20, (1, 10)),
        nn.ZeroPad2d((4, 5, 1, 2)),
        nn.Conv2d(20, 40, (4, 10)),
        nn.Tanh(),
        nn.MaxPool2d((2, 4)),
        nn.Flatten(),
        nn.Linear(40 * 4 * 47, 40),
        nn.Tanh(),
        nn.Linear(40, CLASSES),
    ).eval()
    window = torch.randn(batch, 1, 8, 200)
    with torch.inference_mode():
        return timed(lambda: idnet(window), seconds)


def timed(run, seconds):
    """The median seconds of repeated runs."""
    times = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main():
    what, folder, *rest = sys.argv[1:]
    folder = Path(folder)
    if what == "convert":
        try:
            import onnx  # noqa: F401
        except ImportError:
            convert_tensorflow(folder)
        else:
            convert_onnx(folder)
        return
    batch, seconds = int(rest[0]), float(rest[1])
    litert_sides = (litert, litert_dense, litert_means, litert_idnet)
    sides = (lce, *litert_sides, onnxruntime, onnxruntime_idnet, torch)
    side = next(side for side in sides if side.__name__ == what)
    print(side(folder, batch, seconds) / batch)


if __name__ == "__main__":
    main()
