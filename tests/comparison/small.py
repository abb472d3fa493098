"""What is asked for in the tests of comparisons: two optimizers, a few seeds, a space."""

import momentum_jax as mj

OPTIMIZERS = {
    "sgd": mj.OptimizerConfig("sgd", learning_rate=0.05),
    "momentum": mj.OptimizerConfig("momentum", learning_rate=0.05, momentum=0.9),
}
# An interval of 98.3 % needs seven. Not in order, since results must keep the order given.
SEEDS = (3, 0, 1, 4, 8, 7, 6)
# Without a momentum of 0, so that no space contains another.
SPACE = {"learning_rate": mj.LogUniform(0.01, 1.0), "momentum": {"momentum": mj.Uniform(0.1, 0.9)}}
