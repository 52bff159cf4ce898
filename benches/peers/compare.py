"""Compares the speed with peers on this machine:

    python3.11 benches/peers/compare.py training
    python3.11 benches/peers/compare.py inference

All sides run alternating, so that other load on the machine affects all of them. Ratios are medians
over rounds. The first run installs the peers from PyPI into --environments (about 8 GB; 2 GB for
`inference --only LiteRT`). Larq 0.13 needs Keras 2, hence a pinned TensorFlow on Python 3.11.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = {
    "larq": [
        "larq==0.13.3",
        "larq-compute-engine==0.16.0",
        "tensorflow-cpu==2.16.2",
        "tf_keras==2.16.0",
        "numpy==1.26.4",
    ],
    "litert": ["ai-edge-litert==2.3.0"],
    "floats": ["onnx==1.23.2", "onnxruntime==1.32.0", "torch==2.4.1"],
}
# The environment and the side of inference.py.
INFERENCE_PEERS = {
    "LiteRT, BiPedalNet's layers in int8": ("litert", "litert"),
    "LiteRT, int8, dense": ("litert", "litert_dense"),
    "LiteRT, int8, means and deflation": ("litert", "litert_means"),
    "LiteRT, IDNet in int8": ("litert", "litert_idnet"),
    "Larq Compute Engine": ("larq", "lce"),
    "ONNX Runtime, float32": ("floats", "onnxruntime"),
    "ONNX Runtime, IDNet in float32": ("floats", "onnxruntime_idnet"),
    "PyTorch, IDNet in float32": ("floats", "torch"),
}


def python(environment, folder):
    venv = folder / environment
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin/pip", "install", "--quiet", "--no-cache-dir"]
        subprocess.run(pip + ENVIRONMENTS[environment], check=True)
    return venv / "bin/python"


def output(command, threads):
    # Each library reads its own variable.
    names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS"]
    environment = os.environ | {name: str(threads) for name in names}
    done = subprocess.run(
        command, cwd=HERE.parent.parent, env=environment, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    return done.stdout


def per_second(command, threads):
    return float(re.search(r"per_second=(\d+)", output(command, threads))[1])


def training_sides(options):
    seconds = str(options.seconds)
    for threads in (2, 1):
        ours = ["cargo", "bench", "--bench", "training", "--", "64", str(round(options.seconds))]

        def peer(environment, script, threads=threads):
            command = [python(environment, options.environments), HERE / script]
            command += ["--threads", str(threads), "--batch", "64", "--seconds", seconds]
            return lambda: per_second(command, threads)

        yield f"{threads} threads", {
            "bipedalnet": lambda t=threads, c=ours: per_second(c, t),
        }, {
            "Larq, TensorFlow graph": peer("larq", "larq_training.py"),
            "PyTorch, eager": peer("floats", "torch_training.py"),
        }


def inference_sides(options):
    peers = {
        name: side
        for name, side in INFERENCE_PEERS.items()
        if not options.only or any(part in name for part in options.only.split(","))
    }
    environments = {environment for environment, _ in peers.values()}
    # TensorFlow writes the models that LiteRT reads.
    converters = {"larq" if name == "litert" else name for name in environments}
    interpreters = {name: python(name, options.environments) for name in environments | converters}
    with tempfile.TemporaryDirectory() as models:
        script = HERE / "inference.py"
        for converter in converters:
            output([interpreters[converter], script, "convert", models], 1)

        window_time = ["cargo", "run", "--release", "--example", "window_time", "--"]

        def ours(model):
            command = [*window_time, f"models/{model}.safetensors", str(options.seconds)]
            return lambda: 1.0 / float(output(command, 1))

        for batch in (1, 32):

            def peer(environment, side, batch=batch):
                command = [interpreters[environment], script, side, models, str(batch)]
                command.append(str(options.seconds))
                return lambda: 1.0 / float(output(command, 1).split()[-1])

            yield f"windows per second, batch {batch}, one thread", {
                "the network that ships": ours("bipedalnet-openset"),
                "BiPedalNet": ours("bipedalnet"),
            }, {name: peer(*side) for name, side in peers.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["training", "inference"])
    parser.add_argument("--only", help="peers of inference whose name contains one of A,B,...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="for each side in each round")
    parser.add_argument(
        "--environments", type=Path, default=Path(tempfile.gettempdir()) / "bipedalnet-peers"
    )
    options = parser.parse_args()
    options.environments.mkdir(exist_ok=True)
    sides = training_sides if options.what == "training" else inference_sides
    for title, ours, peers in sides(options):
        rounds = {name: [] for name in ours | peers}
        for _ in range(options.rounds):
            for name, measure in (ours | peers).items():
                rounds[name].append(measure())
        ratios = "".join(f" speed of {name} relative to this |" for name in ours)
        print(f"\n| {title} | median per second | minimum | maximum |{ratios}")
        print("|---|" + "--:|" * (3 + len(ours)))
        for name, values in rounds.items():
            figures = f"{statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f}"
            for own in ours:
                ratio = statistics.median(a / b for a, b in zip(rounds[own], values))
                figures += f" | {ratio:.2f}"
            print(f"| {name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
