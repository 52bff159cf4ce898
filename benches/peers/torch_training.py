"""Training speed of BiPedalNet in eager PyTorch, in samples per second, on random data.

Signs use the straight-through estimator, clipped at one. Data are in memory, without sampling,
augmentation or validation. `compare.py` installs the right versions.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

CLASSES = 38
ROUNDS = 5


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return torch.where(values >= 0, 1.0, -1.0)

    @staticmethod
    def backward(context, gradient):
        (values,) = context.saved_tensors
        return gradient * (values.abs() <= 1)


class Convolution(nn.Conv2d):
    def forward(self, values):
        return functional.conv2d(values, Sign.apply(self.weight))


class Dense(nn.Linear):
    def forward(self, values):
        return functional.linear(values, Sign.apply(self.weight))


class Norm(nn.Module):
    """Batch normalisation without gamma, followed by sign."""

    def __init__(self, channels):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, values):
        normal = functional.batch_norm(
            values, self.mean, self.variance, None, self.beta, True, 0.01, 1e-3
        )
        return Sign.apply(normal)


def bipedalnet():
    return nn.Sequential(
        Convolution(1, 32, (3, 3), bias=False),
        nn.MaxPool2d(2),
        Norm(32),
        Convolution(32, 64, (1, 3), bias=False),
        Norm(64),
        Convolution(64, 64, (1, 3), bias=False),
        Norm(64),
        nn.Flatten(),
        Dense(64 * 3 * 45, 32, bias=False),
        Norm(32),
        Dense(32, CLASSES, bias=False),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = bipedalnet()
    latent = [p for p in model.parameters() if p.dim() > 1]
    adam = torch.optim.Adam(model.parameters(), 1e-3, foreach=True)
    x = torch.randn(20, options.batch, 1, 8, 100)
    y = torch.randint(CLASSES, (20, options.batch))

    def step(number):
        adam.zero_grad()
        functional.cross_entropy(model(x[number % 20]) / 4, y[number % 20]).backward()
        adam.step()
        with torch.no_grad():
            for weights in latent:
                weights.clamp_(-1, 1)

    for number in range(10):
        step(number)
    rounds = []
    for _ in range(ROUNDS):
        begin, steps = time.perf_counter(), 0
        while time.perf_counter() - begin < options.seconds / ROUNDS:
            step(steps)
            steps += 1
        rounds.append(steps * options.batch / (time.perf_counter() - begin))
    print(f"torch batch={options.batch} samples_per_second={statistics.median(rounds):.0f}")


if __name__ == "__main__":
    main()
