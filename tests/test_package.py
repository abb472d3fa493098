"""What importing costs and needs, and what is public."""

import importlib
import inspect
import pathlib
import pkgutil
import py_compile
import subprocess
import sys
import textwrap
import zipfile

import pytest

import momentum_jax as mj


def python(code):
    """What code prints in a fresh process."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_importing_the_package_loads_nothing_heavy_and_does_not_start_jax():
    loaded = python("""
        import sys
        import momentum_jax
        heavy = "flax matplotlib pyarrow tyro rich plotly tensorflow tensorflow_datasets xarray".split()
        print([name for name in heavy if name in sys.modules])
        if "jax" in sys.modules:
            from jax._src import xla_bridge
            print(xla_bridge.backends_are_initialized())
    """)
    assert loaded in ("[]\n", "[]\nFalse\n")


def test_every_public_name_is_reachable_in_a_fresh_process_and_listed_by_dir():
    assert (
        python("""
        import momentum_jax
        for name in momentum_jax.__all__:
            assert getattr(momentum_jax, name) is not None, name
            assert name in dir(momentum_jax), name
        assert callable(momentum_jax.train) and callable(momentum_jax.momentum)
        print(len(set(momentum_jax.__all__)) == len(momentum_jax.__all__))
    """)
        == "True\n"
    )


def test_the_public_names_are_found_in_a_zip_archive_too(monkeypatch, tmp_path):
    source = pathlib.Path(mj.__file__).read_text(encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "packages.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", source)
        archive.writestr("bytecode_only/__init__.pyc", compiled(source, tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "packages.zip"))
    zipped = importlib.import_module("zipped")
    assert zipped.__all__ == mj.__all__
    assert zipped.Config is mj.Config
    # Bytecode alone does not hold the names; the error says which file is missing.
    with pytest.raises(OSError, match=r"__init__\.py"):
        importlib.import_module("bytecode_only")


def compiled(source, folder):
    (folder / "source.py").write_text(source, encoding="utf-8")
    py_compile.compile(str(folder / "source.py"), str(folder / "source.pyc"))
    return (folder / "source.pyc").read_bytes()


def test_an_unknown_attribute_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match=r"'momentum_jax' has no attribute 'momentun'"):
        _ = mj.momentun


@pytest.mark.exhaustive
def test_training_works_where_nothing_but_jax_optax_and_flax_can_be_imported():
    printed = python("""
        import sys

        class Missing:
            names = {"tyro", "plotly", "pyarrow", "matplotlib", "tensorflow", "tensorflow_datasets", "pandas"}
            names |= {"xarray", "IPython"}

            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in self.names:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Missing())
        import jax
        import jax.numpy as jnp
        import momentum_jax as mj
        import momentum_jax.optimizers, momentum_jax.training.loop

        jax.config.update("jax_num_cpu_devices", 2)
        # The mean of (p - x)² over x = 0, 2 is 1 + (p - 1)²; SGD multiplies p - 1 by 1 - 2·0.25 each time.
        task = mj.Task(
            init=lambda key: {"p": jnp.ones(()) * 9},
            loss=lambda params, batch: jnp.mean((params["p"] - batch) ** 2),
            train=jnp.array([0.0, 2.0]),
        )
        optimizers = {"sgd": mj.OptimizerConfig("sgd", learning_rate=0.25)}
        cfg = mj.Config(iterations=4, batch_size=2, sampling="epochs", optimizers=optimizers)
        result = mj.train(cfg, task=task)
        print(result.params["sgd"]["p"], result.losses["sgd"])
        # In a notebook too.
        assert "sgd" in repr(result) and "<svg" in result._repr_html_()
    """)
    # 1 + 8 / 2⁴, exact in binary; losses 1 + (4, 2, 1, 0.5)².
    assert printed == "[1.5] [[17.    5.    2.    1.25]]\n"


def test_no_module_has_the_name_of_a_public_function():
    # With lazy imports a clash would turn the function into a module, depending on what was imported before.
    for package in (mj, mj.optimizers):
        functions = {name for name in package.__all__ if inspect.isroutine(getattr(package, name))}
        assert len(functions) > 2
        assert functions & {module.name for module in pkgutil.iter_modules(package.__path__)} == set()


def test_importing_training_changes_no_setting_of_jax():
    assert (
        python("""
        import jax
        # The public attributes lack a fifth of the settings, so that this reads the dictionary behind them.
        before = dict(jax.config.values)
        import momentum_jax.training.loop
        after = dict(jax.config.values)
        # Flax and others may add settings of their own.
        print({name: after.get(name) for name in before if after.get(name) != before[name]})
    """)
        == "{}\n"
    )
