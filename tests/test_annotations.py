"""The shapes and dtypes that the signatures promise, checked while a small experiment goes through all floors."""

import subprocess
import sys

EXPERIMENT = """
from beartype import BeartypeConf, beartype
import jaxtyping, sys, types

# beartype.beartype, but an int will do for a float, as type checkers have it.
checker = types.ModuleType("checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules["checker"] = checker

with jaxtyping.install_import_hook("momentum_jax", "checker.check"):
    import jax, optax
    import jax.numpy as jnp, numpy as np
    jax.config.update("jax_num_cpu_devices", 2)
    import momentum_jax as mj
    from momentum_jax.analysis import first_reached, smooth_curve

    schedule = mj.Schedule("warmup_cosine", peak_value=0.1, warmup_steps=2, decay_steps=9)
    cfg = mj.Config(
        hidden_sizes=(5,), iterations=8, batch_size=4, seeds=3, l2=0.1, sampling="epochs", evaluate_every=5,
        optimizers={
            "a": mj.OptimizerConfig("sgd", learning_rate=0.1),
            "b": mj.OptimizerConfig("momentum", learning_rate=schedule, momentum=0.5),
            "c": mj.OptimizerConfig("nesterov", learning_rate=0.1),
            "d": mj.OptimizerConfig("optax.adam", learning_rate=0.1),
        },
    )
    result = mj.train(cfg, metrics={"norm": lambda params, state, grads: optax.global_norm(grads)})
    result.save(sys.argv[1])
    assert mj.Result.load(sys.argv[1]) == result
    mj.batch_indices(cfg, 0)
    mj.initial_params(cfg, 0, "a")
    mj.load_dataset("mnist").split_validation(10)
    smooth_curve(result.losses["a"]), first_reached(result.losses["a"], 0.5)
    print("checked", mj.batch_indices.__wrapped__.__name__)
"""


def test_what_passes_through_the_floors_has_the_annotated_shapes_and_dtypes(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", EXPERIMENT, str(tmp_path / "result")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    # Proof that the hook was there: without it functions are not wrapped.
    assert done.stdout == "checked batch_indices\n"
