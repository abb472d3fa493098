"""`momentum-jax sweep` and `momentum-jax status`."""

import pathlib
import re
import subprocess
import sys

import jax
import pytest

import momentum_jax as mj
from momentum_jax.cli import jax_setup
from momentum_jax.results.head import read_head
from momentum_jax.results.store import open_store
from momentum_jax.space import make_trials

SMALL = ["--hidden-sizes", "8", "--iterations", "20", "--batch-size", "16"]
GRID = ["--grid", "learning_rate=0.01,0.1,1.0", "--grid", "momentum.momentum=0.5,0.9"]
# Sweeps with three trials of it have one program in common.
ONE = ["--optimizer", "a=sgd,learning_rate=0.1"]
TWO = [*ONE, "--optimizer", "b=momentum,learning_rate=0.1"]


@pytest.fixture
def sweep(main, idx, capsys, compiled_quickly):
    """Runs the command in this process and gives the lines that it prints."""

    def run(*arguments):
        main(["sweep", "--dataset", str(idx), *SMALL, *arguments])
        return capsys.readouterr().out.splitlines()

    return run


def status(main, capsys, folder):
    main(["status", str(folder)])
    return capsys.readouterr().out.splitlines()


def test_a_sweep_prints_the_best_trials_and_leaves_runs_and_a_heatmap(sweep, main, capsys):
    lines = sweep(*GRID, "--seeds", "2", "--out", "o")
    result = mj.Result.load("o")
    assert {label: len(trials) for label, trials in result.trials.items()} == {"sgd": 3, "momentum": 6, "optax": 3}
    assert lines[0] == "the best trials of 12, medians of 2 seeds"
    assert lines[1].split() == [
        "optimizer",
        "learning_rate",
        "momentum",
        "training",
        "loss",
        "test",
        "accuracy",
        "failed",
        "runs",
    ]
    losses = [float(re.findall(r"\d+\.\d{4}", line)[0]) for line in lines[2:] if re.search(r"\d\.\d{4} ", line)]
    assert losses == sorted(losses)
    medians = [result.final_losses(label)[i].mean() for label, own in result.trials.items() for i in range(len(own))]
    assert losses[0] == round(float(min(medians)), 4)
    assert {path.name for path in pathlib.Path("o").iterdir()} >= {"parts", "sweep.json", "heatmap.png", "heatmap.svg"}
    assert lines[-2:] == [
        "written: o/ with heatmap.png and heatmap.svg; the runs are in parts/*.parquet",
        "next: momentum-jax report o  # a page of this sweep",
    ]
    failed = sum(int(of_label.sum()) for of_label in result.failed.values())
    assert status(main, capsys, "o")[0] == f"finished: 24 of 24 runs, {failed} failed"


def test_the_same_command_goes_on_where_it_was_interrupted_and_says_so(sweep, main, monkeypatch, capsys):
    written = []

    def stop(self, records):
        write(self, records)
        written.append(records)
        if len(written) == 1:
            raise KeyboardInterrupt

    from momentum_jax.results.store import Store
    from momentum_jax.sweeps import batches

    write = Store.write
    # Store the runs two by two: one on each device.
    monkeypatch.setattr(batches, "BATCH_ITERATIONS", 20)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", stop)
        with pytest.raises(SystemExit) as exit_:
            sweep(*TWO, "--grid", "learning_rate=0.01,0.1", "--out", "o")
    assert exit_.value.code == 130
    done = len(written[0])
    said = f"interrupted after {done} of 4 runs; these are saved, and the same command goes on from there"
    printed = capsys.readouterr()
    assert said in printed.err
    # Not finished is not failed.
    assert "every trial failed" not in printed.out
    assert status(main, capsys, "o")[0] == f"stopped; the same call goes on from there: {done} of 4 runs, 0 failed"
    sweep(*TWO, "--grid", "learning_rate=0.01,0.1", "--out", "o")
    sweep(*TWO, "--grid", "learning_rate=0.01,0.1", "--out", "whole")
    assert mj.Result.load("o") == mj.Result.load("whole")


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        (["--grid", "batch_size=4:16:log:3"], {4, 8, 16}),
        (["--grid", "batch_size=4:16:lin", "--search", "random", "--budget", "3"], set(range(4, 17))),
    ],
)
def test_a_range_of_whole_numbers_gives_whole_numbers(flags, sizes, sweep, monkeypatch):
    planned = []

    def plan(cfg, space, *, search, budget, search_seed, **_):
        planned.extend(make_trials(cfg, space, search=search, budget=budget, search_seed=search_seed)["a"])
        raise KeyboardInterrupt

    monkeypatch.setattr("momentum_jax.cli.sweep.sweep", plan)
    with pytest.raises(SystemExit):
        sweep(*ONE, *flags)
    assert len(planned) == 3
    assert {trial.batch_size for trial in planned} <= sizes
    assert all(isinstance(trial.batch_size, int) for trial in planned)


@pytest.mark.exhaustive
def test_batch_sizes_of_a_range_are_trained(sweep):
    sweep(*ONE, "--grid", "batch_size=4:16:log:3", "--out", "g")
    assert [trial.batch_size for trial in mj.Result.load("g").trials["a"]] == [4, 8, 16]
    sweep(*ONE, "--grid", "batch_size=4:16:lin", "--search", "random", "--budget", "3", "--out", "s")
    assert all(4 <= trial.batch_size <= 16 for trial in mj.Result.load("s").trials["a"])


def test_status_tells_of_a_sweep_that_is_running(sweep, main, capsys):
    sweep(*ONE, "--grid", "learning_rate=0.01,0.1,1.0", "--out", "o")
    result = mj.Result.load("o")
    head = read_head(pathlib.Path("o"))
    with open_store(pathlib.Path("o"), head, result.config, result.trials):
        lines = status(main, capsys, "o")
    assert lines[0].startswith("running: 3 of 3 runs, ")
    assert re.fullmatch(r"[\d.]+ runs/s, 0:00:00 left", lines[1])
    assert re.fullmatch(r"\d+ MiB of memory", lines[2])


def test_a_best_trial_on_an_edge_is_warned_of_and_one_within_is_not(sweep):
    edge = sweep(*ONE, "--grid", "learning_rate=0.001,0.01,0.1", "--out", "e")
    assert (
        "The best trial of a had the highest learning rate that was tried, so that better may lie beyond; 1 of 3 runs "
        "failed, and with them 1 of 3 trials." in " ".join(edge)
    )
    within = sweep(*ONE, "--grid", "learning_rate=0.001,0.1,1e30", "--out", "w")
    assert not any("beyond" in line for line in within)
    bound = sweep("--optimizer", "a=momentum,learning_rate=0.1", "--grid", "momentum=0.0,0.5,0.999", "--out", "b")
    assert not any("lowest momentum" in line for line in bound)
    dead = sweep(*ONE, "--grid", "learning_rate=1e28,1e29,1e30", "--out", "d")
    assert "Every trial of a failed." in dead
    assert "warning: a: every trial failed: they reached a loss that is not finite, first at iteration 1" in dead


def test_without_out_the_folder_is_named_after_dataset_and_sweep_and_thinned_histories_are_kept(sweep):
    sweep(*ONE, "--grid", "batch_size=8,16", "--record-every", "7", "--search", "random", "--budget", "2")
    (folder,) = pathlib.Path("runs").iterdir()
    assert re.fullmatch(r"idx-sweep-[0-9a-f]{8}", folder.name)
    assert mj.Result.load(folder).iterations.tolist() == [0, 7, 14, 19]


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["--grid"]),
        (["--grid", "learning_rat=0.1"], ["'learning_rat'", "did you mean 'learning_rate'?"]),
        (["--grid", "momentm.momentum=0.1"], ["'momentm.momentum'"]),
        (["--grid", "momentum.momentm=0.1"], ["'momentm'", "did you mean 'momentum'?"]),
        (["--grid", "learning_rate=1:0:log:3"], ["low", "high"]),
        (["--grid", "learning_rate=0:1:log:3"], ["low", "more than 0"]),
        (["--grid", "learning_rate=0.1:1:logg:3"], ["'logg'", "did you mean 'log'?"]),
        (["--grid", "learning_rate=0.1:1:log"], ["learning_rate", ".grid(n)"]),
        (["--grid", "learning_rate"], ["NAME=", "'learning_rate'"]),
        (["--grid", "learning_rate={}"], ["{}"]),
        (["--grid", "learning_rate=0.1", "--grid", "learning_rate=0.2"], ["learning_rate", "twice"]),
        (["--grid", "learning_rate=-1"], ["learning_rate", "at least 0", "-1"]),
        (["--grid", "batch_size=0"], ["batch_size", "at least 1", "0"]),
        (["--grid", "learning_rate=0.1", "--budget", "3"], ["budget"]),
        (["--grid", "learning_rate=0.1:1:log", "--search", "sobol"], ["budget"]),
        (["--grid", "learning_rate=0.1", "--cluster", "local:0"], ["cluster", "local:N", "'local:0'"]),
        (["--grid", "learning_rate=0.1", "--out", "file"], ["output folder", "'file'"]),
    ],
)
def test_bad_input_is_refused_in_one_line_with_2_and_nothing_is_written(arguments, fragments, main, idx, capsys):
    pathlib.Path("file").write_text("a regular file")
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", "--dataset", str(idx), *SMALL, *arguments])
    message = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message.count("\n") == 1
    assert [fragment for fragment in fragments if fragment not in message] == []
    assert [path.name for path in pathlib.Path.cwd().iterdir()] == ["file"]


def test_the_status_of_what_is_no_sweep_is_refused(main, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["status", "nowhere"])
    assert exit_.value.code == 2
    assert "'nowhere' holds no sweep" in capsys.readouterr().err


CACHED = """
import sys
import jax, jax.monitoring
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
from momentum_jax.cli import main
main(sys.argv[1:])
print(len(hits) > 0, jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.exhaustive
def test_compiled_programs_are_kept_in_the_folder_asked_for_and_not_at_all_when_off(idx, tmp_path):
    def run(cache):
        flags = ["--dataset", str(idx), *SMALL, *ONE, "--compilation-cache", cache, "--quiet"]
        command = [sys.executable, "-c", CACHED, *flags]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    first, again, off = run("cache"), run("cache"), run("off")
    assert (first[0], again[0]) == ("False", "True")
    assert again[1].startswith("cache/programs/")
    assert list((tmp_path / again[1]).iterdir())
    assert off == ["False", "None"]


def test_the_flag_goes_before_the_variable_and_the_variable_before_the_users_cache(monkeypatch, tmp_path):
    said = {}
    monkeypatch.setattr(jax.config, "update", said.__setitem__)
    monkeypatch.setattr(jax_setup.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    for flag, variable, expected in [
        ("a", "b", "a"),
        (None, "b", "b"),
        (None, None, str(tmp_path / "momentum-jax")),
        ("off", "b", None),
        ("No", "b", None),
        (None, "off", None),
    ]:
        said.clear()
        monkeypatch.delenv(jax_setup.VARIABLE, raising=False)
        if variable:
            monkeypatch.setenv(jax_setup.VARIABLE, variable)
        jax_setup.use_compilation_cache(flag)
        folder = said.get("jax_compilation_cache_dir")
        assert (folder and str(pathlib.Path(folder).parent.parent)) == expected
