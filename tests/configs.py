"""Configs of all kinds, for tests that draw them."""

import keyword

from hypothesis import strategies as st

from momentum_jax.config import MAX_INDEX, MAX_SEED, Config
from momentum_jax.optimizers.description import OptimizerConfig, Schedule, description_text

# Words that mean something, and what begins or ends like something else.
TEXTS = st.text() | st.sampled_from(["none", "True", "NaN", "inf", "no", "ON", "if", "ﬁ", "'", "a b", "constant", "-"])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS
NONNEGATIVE = st.floats(0, 1e6)
SCHEDULE = st.one_of(
    st.builds(Schedule, st.just("constant"), value=NONNEGATIVE),
    st.builds(
        lambda name, warmup, decay, **values: Schedule(name, warmup_steps=warmup, decay_steps=warmup + decay, **values),
        st.sampled_from(["warmup_cosine", "warmup_linear"]),
        st.integers(0, 10**9),
        st.integers(1, 10**9),
        peak_value=NONNEGATIVE,
        init_value=NONNEGATIVE,
        end_value=NONNEGATIVE,
    ),
    st.builds(
        Schedule,
        st.just("step_decay"),
        init_value=NONNEGATIVE,
        transition_steps=st.integers(1, 10**9),
        decay_rate=st.floats(1e-3, 1),
    ),
    st.builds(Schedule, st.just("demon"), init_value=NONNEGATIVE, decay_steps=st.integers(1, 10**9)),
    st.builds(Schedule, st.just("one_cycle"), transition_steps=st.integers(1, 10**9), pct_start=st.floats(0, 1)),
    st.builds(Schedule, st.just("log_time"), delta=st.floats(1e-30, 1e300)),
    st.builds(Schedule, st.just("sutskever"), max_value=NONNEGATIVE, transition_steps=st.integers(1, 10**9)),
)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
HYPERPARAMETERS = st.dictionaries(
    NAMES, SCALARS | SCHEDULE | st.recursive(SCALARS, lambda inner: st.lists(inner).map(tuple), max_leaves=5)
)
OPTIMIZERS = st.builds(
    lambda name, hyperparameters: OptimizerConfig(name, **hyperparameters),
    st.text(min_size=1).filter(str.isprintable),
    HYPERPARAMETERS,
)
LABELS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1)
WIDTHS = st.lists(st.integers(1, 2**40), min_size=1, max_size=4).map(tuple)
_ARGUMENTS = {
    "autoencoder": {"hidden_sizes": WIDTHS, "code": st.integers(1, 99), "connections": st.integers(1, 99)},
    "convnet": {"channels": WIDTHS, "batch_norm": st.booleans(), "residual": st.booleans(), "dropout": st.floats(0, 1)},
    "least_squares": {"dimensions": st.integers(2, 99), "L": NONNEGATIVE, "noise": NONNEGATIVE | st.integers(0, 9)},
    "logistic": {"l2": NONNEGATIVE},
}
# The texts of tasks other than "mlp".
TASKS = st.sampled_from(sorted(_ARGUMENTS)).flatmap(
    lambda name: st.builds(description_text, st.just(name), st.fixed_dictionaries({}, optional=_ARGUMENTS[name]))
)
# The task and its fields, which depend on each other.
_TASK_FIELDS = st.fixed_dictionaries(
    {
        "dataset": st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
        "hidden_sizes": st.lists(st.integers(1, 4096)),
        "activation": st.sampled_from(["relu", "sigmoid", "tanh"]),
        "weight_init": st.sampled_from(["he", "xavier"]) | NONNEGATIVE,
        "l2": NONNEGATIVE,
    }
) | st.fixed_dictionaries({"task": TASKS})
CONFIGS = st.builds(
    lambda task, **others: Config(**task, **others),
    task=_TASK_FIELDS,
    iterations=st.integers(1, 2**31 - 1),
    batch_size=st.integers(1, MAX_INDEX),
    seeds=st.integers(1, 20) | st.lists(st.integers(0, MAX_SEED), min_size=1, unique=True),
    optimizers=st.dictionaries(LABELS, OPTIMIZERS, min_size=1, max_size=3),
    sampling=st.sampled_from(["with_replacement", "epochs"]),
    shared_init=st.booleans(),
    dtype=st.sampled_from(["float32", "float64", "bfloat16"]),
    record_every=st.integers(1, MAX_INDEX),
    evaluate_every=st.none() | st.integers(1, MAX_INDEX),
)
