"""Sweeps over real Ray workers on the loopback: the bits of a sweep in this process, whatever comes and goes."""

import contextlib
import os
import pathlib
import signal
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ray.cluster_utils import Cluster

import momentum_jax as mj
from momentum_jax._base.errors import InputError
from momentum_jax._base.machine import cores, environment
from momentum_jax.space import Trial
from momentum_jax.sweeps import cluster
from momentum_jax.sweeps.batches import Job
from momentum_jax.sweeps.cluster import connect, evenly, for_host_task, parallel_tasks, refusal, task_resources
from momentum_jax.sweeps.plan import plan_sweep
from momentum_jax.sweeps.workers import LocalDevices
from momentum_jax.training.loop import Interrupted
from tests.sealing import rewrite_sealed
from tests.sweeps import host_runs


def noted_parabola(notes, work=1):
    """A task that notes at each unpickling which process it was, and whose step takes longer with more work."""

    def note(path):
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")

    class Noted:
        def __reduce__(self):
            return note, (str(notes),)

    noted = Noted()
    # An array of JAX's in a closure; its last digits count in float64 only.
    matrix = jnp.linspace(0.5, 1.5, 40 * 40).reshape(40, 40) / 3

    def loss(params, batch):
        assert noted is not None or os.getpid()
        wide = jax.lax.fori_loop(
            0, work, lambda _, x: jnp.tanh(matrix.astype(x.dtype) @ x), batch.astype(params.dtype).T
        )
        return jnp.mean((params - wide.mean(axis=1)) ** 2)

    examples = np.random.default_rng(0).normal(size=(20, 40))
    return mj.Task(init=lambda key: jax.random.normal(key, (40,)), loss=loss, train=examples)


def config(**changes):
    """Two structures; one optimizer is of a factory that only a by-value pickle can carry."""
    clip = 0.5
    optimizers = {
        "momentum": mj.OptimizerConfig("momentum", learning_rate=0.1, momentum=0.9),
        "own": mj.OptimizerConfig(
            lambda learning_rate: optax.chain(optax.clip(clip), optax.sgd(learning_rate)), learning_rate=0.1
        ),
    }
    return mj.Config(**{"optimizers": optimizers, "iterations": 40, "batch_size": 4, "seeds": 5, **changes})


SPACE = {"learning_rate": [0.01, 0.1, 1.0]}


@contextlib.contextmanager
def compilation_cache(folder):
    """JAX's persistent cache of all programs, in a folder."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    try:
        for name, value in zip(names, (str(folder), 0.0), strict=True):
            jax.config.update(name, value)
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)


def pids(notes):
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


def is_training(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_train")
    return False


def alive(pid):
    with contextlib.suppress(OSError):
        return " Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    return False


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def start(nodes, processors, **options):
    """Adds a machine, so to speak; without JAX's warning of the fork that becomes its process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        return nodes.add_node(num_cpus=processors, include_dashboard=False, **options)


@pytest.fixture(scope="module")
def nodes():
    """A head, which trains nothing, and two machines of one processor each."""
    there = Cluster()
    # A machine that is gone is noticed soon.
    start(there, 0, _system_config={"health_check_period_ms": 500, "health_check_failure_threshold": 3})
    start(there, 1)
    start(there, 1)
    yield there
    there.shutdown()


@pytest.mark.exhaustive
def test_local_workers_give_the_result_of_this_process_and_unpickle_the_job_once(tmp_path, capfd):
    cfg, task = config(), noted_parabola(tmp_path / "notes")
    metrics = {
        "norm": lambda params, state, grads: jnp.linalg.norm(grads),
        # Constants of the program: of where it was traced.
        "process": lambda params, state, grads: jnp.int32(os.getpid()),
        "devices": lambda params, state, grads: jnp.int32(jax.device_count()),
        "niceness": lambda params, state, grads: jnp.int32(os.nice(0)),
    }
    shown = []
    with compilation_cache(tmp_path / "programs"):
        there = mj.sweep(
            cfg,
            SPACE,
            task=task,
            metrics=metrics,
            keep_params=True,
            folder=tmp_path / "there",
            cluster="local:2",
            progress=lambda phase, done, total, note: shown.append((phase, done, total)),
        )
    # What this process compiles for it has other names.
    assert list((tmp_path / "programs").glob("jit_on_device-*"))
    workers = set(pids(tmp_path / "notes"))
    here = mj.sweep(cfg, SPACE, task=task, metrics=metrics, keep_params=True, folder=tmp_path / "here", progress=False)

    process, devices, niceness = (there.metrics.pop(name) for name in ("process", "devices", "niceness"))
    for name in ("process", "devices", "niceness"):
        del here.metrics[name]
    assert there == here
    assert there.params["own"].shape == (3, 5, 40)
    assert there.table() == here.table()
    assert mj.Result.load(tmp_path / "there").table() == mj.Result.load(tmp_path / "here").table()

    assert {pid for label in process for pid in process[label].flat} == workers
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert {count for label in devices for count in devices[label].flat} == {1}
    assert {value for label in niceness for value in niceness[label].flat} == {os.nice(0)}
    assert len(pids(tmp_path / "notes")) == 2
    assert [entry for entry in shown if entry[0] == "runs"][-1] == ("runs", 30, 30)
    assert capfd.readouterr() == ("", "")
    assert not any(map(alive, workers))


@pytest.mark.exhaustive
def test_workers_that_are_killed_leave_and_come_cost_nothing_but_time(tmp_path, nodes, capfd, monkeypatch):
    # Waves of two runs of each structure.
    cfg = config(dtype="float64", iterations=400, seeds=4)
    monkeypatch.setattr(cluster, "BATCH_ITERATIONS", 2 * cfg.iterations)
    task = noted_parabola(tmp_path / "notes", work=10)
    killed, joined = [], []

    def meddle(phase, done, total, note):
        """Kills a worker in its task when the first runs are finished; then all machines go, and another comes."""
        if done and not killed:
            wait_until(lambda: any(map(is_training, pids(tmp_path / "notes"))))
            killed.append(next(filter(is_training, pids(tmp_path / "notes"))))
            os.kill(killed[0], signal.SIGKILL)
        elif 6 < done < total and not joined:
            for node in list(nodes.worker_nodes):
                nodes.remove_node(node, allow_graceful=False)
            joined.append(start(nodes, 1))

    there = mj.sweep(cfg, SPACE, task=task, cluster=nodes.address, progress=meddle)
    assert there == mj.sweep(cfg, SPACE, task=task)
    assert killed
    assert joined
    # Two at the beginning, and one on the new machine; another if the killed one's place was filled by then.
    assert len(set(pids(tmp_path / "notes"))) in (3, 4)
    # Ray tells of lost workers on standard output, and nothing public keeps it from that.
    printed = "".join(capfd.readouterr())
    assert "A worker died or was killed" in printed
    assert "Traceback" not in printed


@pytest.mark.exhaustive
def test_an_interrupt_leaves_what_is_finished_and_no_workers(tmp_path, nodes, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    cfg, task = config(dtype="bfloat16", iterations=200, seeds=8), noted_parabola(tmp_path / "notes", work=10)

    def interrupt(phase, done, total, note):
        if done:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        mj.sweep(cfg, SPACE, task=task, folder=tmp_path / "runs", cluster="auto", progress=interrupt)
    unfinished = caught.value.result
    assert unfinished is None or 0 < unfinished.table().num_rows < 48
    wait_until(lambda: not any(map(alive, pids(tmp_path / "notes"))))
    parts = sorted((tmp_path / "runs" / "parts").iterdir())
    assert mj.sweep(cfg, SPACE, task=task, folder=tmp_path / "runs") == mj.sweep(cfg, SPACE, task=task)
    assert set(parts) <= set((tmp_path / "runs" / "parts").iterdir())


@pytest.mark.exhaustive
def test_what_goes_wrong_in_a_worker_is_told_as_if_here(tmp_path, nodes):
    cfg, task, driver = config(seeds=1), noted_parabola(tmp_path / "notes"), os.getpid()

    def raising(error):
        def metric(params, state, grads):
            if os.getpid() != driver:
                raise error
            return jnp.float32(0)

        return {"metric": metric}

    trials = {label: (Trial(optimizer, 4),) for label, optimizer in cfg.optimizers.items()}
    with connect(nodes.address, "auto") as workers:
        with jax.default_matmul_precision("float32"):
            described = workers.environment()
            assert described == LocalDevices(None, "auto").environment()
        assert described["matmul_precision"] == "float32"

        def train(metrics, environment=described):
            job = Job(cfg, task, metrics, environment, 100, False)
            return list(workers.train(job, plan_sweep(cfg, trials, task, metrics).groups, lambda *_: None))

        with pytest.raises(InputError, match=r"^no such thing"):
            train(raising(InputError("no such thing")))
        with pytest.raises(InputError, match=r"^metrics\['metric'\] fails: RuntimeError: out of order"):
            train(raising(RuntimeError("out of order")))
        with pytest.raises(
            InputError, match=r"^worker \d+ on [\d.]+ would give .*: jaxlib is \"[\d.]+\", not \"0.0.1\"$"
        ):
            train({}, described | {"jaxlib": "0.0.1"})
        with pytest.raises(InputError, match=r"call ray.shutdown\(\)"):
            mj.sweep(cfg, {}, task=task, cluster="local:1")


@pytest.mark.exhaustive
def test_workers_unlike_those_of_the_folder_are_refused(tmp_path, nodes):
    cfg, task = config(seeds=1), noted_parabola(tmp_path / "notes")
    mj.sweep(cfg, {}, task=task, folder=tmp_path / "runs")
    mine = environment(jax.devices()[0], "map") | {"instruction_set": "pdp11"}
    rewrite_sealed(tmp_path / "runs" / "sweep.json", lambda head: head | {"environment": mine})
    with pytest.raises(InputError, match=r"another sweep: environment.instruction_set is \"pdp11\", not "):
        mj.sweep(cfg, {}, task=task, folder=tmp_path / "runs", cluster=nodes.address)
    assert not pids(tmp_path / "notes")


@pytest.fixture
def importable_by_workers(monkeypatch):
    root = str(pathlib.Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *sys.path]))


HOST_TASKS = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.05)}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("importable_by_workers")
def test_runs_of_a_host_task_on_ray_are_those_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parents[2]))
    cfg, space = mj.Config(iterations=20, seeds=3, optimizers=HOST_TASKS), {"learning_rate": [0.05, 0.15]}
    task = mj.HostTask(host_runs.fails_at_high_rates)
    there = mj.sweep(cfg, space, task=task, folder=tmp_path / "there", cluster="local:2")
    here = mj.sweep(cfg, space, task=task)
    assert there == here
    assert list(there.errors["sgd"]) == [(1, 0), (1, 1), (1, 2)]
    # Each run is a part of its own, and the folder is that of any sweep: this machine goes on with it.
    assert len(list((tmp_path / "there" / "parts").iterdir())) == 6
    more = mj.Config(iterations=20, seeds=4, optimizers=HOST_TASKS)
    assert mj.sweep(more, space, task=task, folder=tmp_path / "there").failed["sgd"].tolist() == [
        [False] * 4,
        [True] * 4,
    ]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("importable_by_workers")
def test_a_host_run_that_ends_its_worker_again_and_again_is_a_failed_run(tmp_path):
    cfg = mj.Config(iterations=20, seeds=3, optimizers=HOST_TASKS)
    result = mj.sweep(cfg, {}, task=mj.HostTask(host_runs.dies_with_seed_1), cluster="local:2")
    assert result.failed["sgd"].tolist() == [[False, True, False]]
    assert result.errors == {"sgd": {(0, 1): "its worker process died in each of 4 attempts"}}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("importable_by_workers")
def test_what_a_host_run_returns_wrongly_on_ray_is_told_as_if_here():
    cfg = mj.Config(iterations=20, optimizers=HOST_TASKS)
    with pytest.raises(InputError, match=r"^seed 0 of 'sgd': run must return the loss before each of its 20 updates"):
        mj.sweep(cfg, {}, task=mj.HostTask(host_runs.returns_too_few), cluster="local:1")


def test_a_host_run_has_a_processor_or_a_gpu_or_those_of_a_local_worker():
    def resources(given, address):
        return for_host_task(cluster.Cluster(None, given, "auto"), address).resources

    assert resources({"num_cpus": 8, "num_gpus": 0}, "10.0.0.1:6379") == {"num_cpus": 1, "num_gpus": 0}
    assert resources({"num_cpus": 8, "num_gpus": 0}, "local:2") == {"num_cpus": 8, "num_gpus": 0}
    assert resources({"num_cpus": 1, "num_gpus": 1}, "auto") == {"num_cpus": 1, "num_gpus": 1}


def test_a_worker_is_refused_by_its_name_for_what_changes_the_bits():
    mine = {"jaxlib": "0.10.2", "instruction_set": "x86_64 avx2"}
    assert refusal("worker 7 on 10.0.0.1", mine, mine) is None
    assert refusal("worker 7 on 10.0.0.1", mine | {"instruction_set": "x86_64 avx512f"}, mine) == (
        "worker 7 on 10.0.0.1 would give other bits than the rest of this sweep: "
        'instruction_set is "x86_64 avx512f", not "x86_64 avx2"'
    )


def node(cpus, gpus=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}}


@pytest.mark.parametrize(
    ("nodes", "workers", "resources", "tasks"),
    [
        # Of the smallest machine, all processors; what is dead or has none does not count.
        ([node(0), node(4), node(10), node(2, alive=False)], 0, {"num_cpus": 4, "num_gpus": 0}, 3),
        ([node(8, gpus=2), node(3)], 0, {"num_cpus": 1, "num_gpus": 1}, 2),
        ([node(max(1, cores() // 2) * 2)], 2, {"num_cpus": max(1, cores() // 2), "num_gpus": 0}, 2),
    ],
)
def test_a_task_takes_a_gpu_or_the_processors_of_the_smallest_machine(nodes, workers, resources, tasks):
    assert task_resources(nodes, workers) == resources
    assert parallel_tasks(nodes, resources) == tasks
    # Machines may all be gone for a while.
    assert parallel_tasks([], resources) == 1


def test_a_cluster_without_processors_is_refused():
    with pytest.raises(InputError, match="no machine with a processor to give"):
        task_resources([node(0), node(4, alive=False)], 0)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
def test_batches_are_of_one_size_give_or_take_a_run(count):
    parts = evenly(count, 8)
    assert [run for part in parts for run in part] == list(range(count))
    sizes = set(map(len, parts))
    assert max(sizes) <= 8
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-count // 8)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "nonsense", "http://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_refused_soon(address):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"cluster .* cannot be reached"):
        mj.sweep(config(), {}, task=noted_parabola("nowhere"), cluster=address)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("address", ["local", "local:", "local:0", "local:two", "local:-1"])
def test_local_needs_a_number_of_workers(address):
    with pytest.raises(InputError, match="local:N for N workers"):
        mj.sweep(config(), {}, task=noted_parabola("nowhere"), cluster=address)


def test_a_mistake_is_told_before_anything_is_started(monkeypatch):
    monkeypatch.setattr(cluster, "connect", None)
    with pytest.raises(InputError, match="layout: unknown 'mapp'"):
        mj.sweep(config(), {}, task=noted_parabola("nowhere"), cluster="local:1", layout="mapp")
    with pytest.raises(InputError, match="devices are those of the workers"):
        mj.sweep(config(), {}, task=noted_parabola("nowhere"), cluster="local:1", devices=jax.devices())


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "momentum-jax\[cluster\]"'):
        mj.sweep(config(), {}, task=noted_parabola("nowhere"), cluster="local:1")
