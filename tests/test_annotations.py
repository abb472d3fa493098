"""The shapes and dtypes in the signatures, checked by jaxtyping and beartype while a small experiment runs."""

import subprocess
import sys

import pytest

from tests.compiling import quick_environment

# Arguments: a folder for results, the labels of the optimizers to train, and batch sizes to sweep over.
EXPERIMENT = """
from beartype import BeartypeConf, beartype
import jaxtyping, sys, types

# beartype.beartype, except that an int is accepted for a float, as type checkers do.
checker = types.ModuleType("checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules["checker"] = checker

with jaxtyping.install_import_hook("momentum_jax", "checker.check"):
    import jax, optax
    import jax.numpy as jnp, numpy as np
    jax.config.update("jax_num_cpu_devices", 2)
    import momentum_jax as mj
    from momentum_jax import analysis
    from momentum_jax.analysis import curvature, ends_of_axes, first_reached, noise, sharpness, smooth_curve, theory
    from momentum_jax.report import curves_figure, document, heatmap_figure, three_way_figure
    from momentum_jax.tasks import landscapes

    folder, labels, batch_sizes = sys.argv[1], sys.argv[2], [int(size) for size in sys.argv[3]]
    schedule = mj.Schedule("warmup_cosine", peak_value=0.1, warmup_steps=2, decay_steps=9)
    optimizers = {
        # One program for both.
        "a": mj.OptimizerConfig("momentum", learning_rate=schedule, momentum=0.9),
        "b": mj.OptimizerConfig("momentum", learning_rate=schedule, momentum=0.5),
        "c": mj.OptimizerConfig("nesterov", learning_rate=0.1),
        "d": mj.OptimizerConfig("optax.adam", learning_rate=0.1),
        "e": mj.OptimizerConfig("momentum", learning_rate=schedule, convention="corrected", weight_decay=0.1),
        "f": mj.OptimizerConfig("nesterov", learning_rate=0.1, momentum=mj.Schedule("sutskever"), dampening=0.1),
        "g": mj.OptimizerConfig("qhm", learning_rate=0.1, decoupled_weight_decay=True, weight_decay=0.1),
        "h": mj.OptimizerConfig("aggmo", learning_rate=0.1, accumulator_dtype="float32"),
        "i": mj.OptimizerConfig("adaptive_restart", learning_rate=0.1, scheme="function"),
        "j": mj.OptimizerConfig("sgd", learning_rate=0.1),
    }
    cfg = mj.Config(
        hidden_sizes=(5,), iterations=8, batch_size=4, seeds=3, l2=0.1, sampling="epochs", evaluate_every=4,
        optimizers={label: optimizers[label] for label in labels},
    )
    result = mj.train(cfg, metrics={"norm": lambda params, state, grads: optax.global_norm(grads)})
    result.save(folder)
    assert mj.Result.load(folder) == result
    swept = mj.sweep(
        mj.Config(hidden_sizes=(5,), iterations=8, batch_size=4, seeds=2, optimizers={"c": optimizers["c"]}),
        {"learning_rate": mj.LogUniform(0.1, 1.0), "momentum": [0.5, 0.9], "batch_size": batch_sizes},
        search="sobol", budget=3, keep_params=True, folder=folder + "-sweep",
    )
    assert mj.Result.load(folder + "-sweep") == swept
    compared = mj.compare_results(result, target=2.0)
    three_way_figure(compared, ["test_loss", "failed"]), curves_figure(compared)
    assert document.training_document([result], "")["three_way"] and document.sweep_document(swept, "")["heatmaps"]
    heatmap_figure(swept), ends_of_axes({"x": [0.1, 0.2]}, 0)
    mj.batch_indices(cfg, 0)
    mj.initial_params(cfg, 0, "a")
    mj.load_dataset("mnist").split_validation(10)
    optimizers, params = mj.optimizers, {"w": jnp.ones(2)}

    def two_steps(optimizer, params):
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(params, state, params, value_fn=lambda p: jnp.sum(p["w"] ** 2))
            params = optax.apply_updates(params, updates)
        return params

    # Tracing is enough to check annotations.
    for optimizer in (
        mj.sgd(0.1),
        mj.nesterov(0.1),
        mj.momentum(optax.linear_schedule(0.1, 0.2, 5), 0.5, convention="corrected", weight_decay=0.1),
        mj.nesterov(0.1, optimizers.sutskever(), dampening=0.1),
        mj.qhm(0.1, decoupled_weight_decay=True, weight_decay=0.1),
        mj.aggmo(0.1, accumulator_dtype="float32"),
        mj.adaptive_restart(0.1, scheme="function"),
        mj.adaptive_restart(0.1, scheme="gradient"),
    ):
        jax.eval_shape(lambda params: two_steps(optimizer, params), params)
    ours = mj.momentum(0.1, weight_decay=0.1, mask={"w": True}).init(params)
    theirs = optimizers.to_optax(ours, optax.sgd(0.1, 0.9).init(params), 0.1)
    optimizers.from_optax(theirs, 0.1, count=1, convention="corrected")
    optimizers.convert({"lr": 0.1, "momentum": optimizers.demon(0.9, 10)}, "torch", "momentum_jax")
    optimizers.effective_learning_rate(0.1, jnp.float32(0.9)), optimizers.optimal_momentum(1.0, 2.0)
    smooth_curve(result.losses["a"]), first_reached(result.losses["a"], 0.5)
    a, w = jnp.array([[0.1], [0.2]]), jnp.ones(3)
    for f in (theory.heavy_ball_rate, theory.nesterov_rate):
        f(a, 0.5), theory.worst_rate(f, 0.1, np.float32(0.9), 1, w)
    theory.robust_region(w), theory.nesterov_oscillating_region(0), theory.nesterov_stability_limit(0.9)
    theory.heavy_ball_critical_momentum(a), theory.nesterov_critical_momentum(a)
    theory.nesterov_matrix(a, w), theory.heavy_ball_matrix(a, 0.9)
    noise.nesterov_noise(0.1, w, a, 1), noise.heavy_ball_noise_ratio(a, w)
    noise.nesterov_mean_square_limit(0.9, a, w), noise.heavy_ball_crossover_batch(w / 2, 1, 2)
    noise.mean_square_rate(0.1, 0.9, jnp.ones([2, 3, 3]))
    noise.stationary_covariance(0.1, 0, w[:, None, None], jnp.eye(1))
    theory.steps_to_grow(theory.nesterov_saddle_growth(a, w / 2), 10)
    landscapes.make_landscape("chain", dimensions=3, L=4).function(w), theory.chain_lower_bound(1.0, 4, 3, 2)
    for name in ("autoencoder", "convnet", "least_squares", "logistic", "mlp"):
        task = mj.make_task(name)
        shapes = jax.eval_shape(task.init, jax.random.key(0))
        jax.eval_shape(task.loss, shapes, task.train)
        if task.evaluate is not None:
            jax.eval_shape(task.evaluate, shapes, task.train, task.test)
    loss, key, state = (lambda p, d: jnp.mean((d @ p) ** 2)), jax.random.key(0), mj.sgd(0.1).init(w)
    sharpness.top_eigenvalues(loss, w, jnp.ones([5, 3]), key, count=2, slice_size=2)
    sharpness.metric(lambda p: jnp.sum(sharpness.top_eigenvector(loss, p, w[None], key)), every=2)(w, state, w)
    curvature.batch_sharpness(loss, w, jnp.ones([5, 3]), key, batch_size=2, batches=2)
    curvature.predict_rates(loss, w, jnp.ones([5, 3]), [1, 2], 0.9, key)
    a, b = (analysis.iterations_to(result.losses[label], result.iterations, 2.0) for label in "ab")
    between = analysis.paired_differences(a, b)
    analysis.median_interval(*between), analysis.wins_interval(*between)
    analysis.mean_interval(result.train_loss["a"])
    analysis.proportion_difference_interval(result.failed["a"], result.failed["b"])
    analysis.expected_best(a, np.array([1, 2])), analysis.proportion_interval(1, 3)
    analysis.tolerated_range(np.array([0.1, 0.2]), np.array([1.0, 2.0]), 2)
    print("checked", mj.batch_indices.__wrapped__.__name__)
"""


@pytest.mark.parametrize(
    ("labels", "batch_sizes"),
    [
        pytest.param("ab", "4", marks=pytest.mark.contained),
        pytest.param("abcdefghij", "45", marks=pytest.mark.exhaustive),
    ],
)
def test_arguments_and_results_have_the_annotated_shapes_and_dtypes(labels, batch_sizes, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", EXPERIMENT, str(tmp_path / "result"), labels, batch_sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quick_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    # The import hook wraps functions; without it there is no `__wrapped__`.
    assert done.stdout == "checked batch_indices\n"
