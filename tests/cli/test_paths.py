"""`momentum-jax paths`: pictures and measures of any landscape, and mistakes."""

import jax
import numpy as np
import pytest

from momentum_jax._base.errors import InputError
from momentum_jax.cli import paths
from momentum_jax.tasks.landscapes import make_landscape

STUDY = ["--optimizer", "far=sgd,learning_rate=1.5", "--optimizer", "near=momentum,learning_rate=0.1"]


def test_paths_are_drawn_and_measured_and_those_that_diverge_are_counted(main, tmp_path, capsys):
    main(["paths", *STUDY, "--iterations", "20", "--out", str(tmp_path / "here")])
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"paths.png", "paths.svg"}
    printed = capsys.readouterr().out
    assert "diverged: 1 of 2: far" in printed
    assert printed.splitlines()[0] == "valley: 20 iterations from (-7, 2)"
    # SGD at 1.5 makes y twice as large each time, on the other side; momentum's measures are numbers, the overshoot 0.
    (row,) = (line.split() for line in printed.splitlines() if line.startswith("near"))
    assert all(float(entry) > 0 for entry in row[1:5])
    assert float(row[5]) >= 0


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of what is printed: a figure takes a second."""
    monkeypatch.setattr(paths, "paths_figure", lambda landscape, followed: None)
    monkeypatch.setattr(paths, "save_figure", lambda figure, path: None)


def rows(printed):
    """The entries of the table, by label."""
    return {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line}


@pytest.mark.usefixtures("undrawn")
def test_a_path_made_by_hand_has_its_measures_in_their_columns(main, capsys):
    # 1, −½, ¼: by 1½ and ¾, turning back once.
    words = ["--landscape", "quadratic,curvatures=[1]", "--optimizer", "a=sgd,learning_rate=1.5"]
    main(["paths", *words, "--iterations", "2"])
    assert rows(capsys.readouterr().out)["a"] == ["0.03125", "0.25", "2.25", "3.142", "0.5"]


@pytest.mark.usefixtures("undrawn")
def test_the_overshoot_is_that_of_the_minimum_that_a_path_ends_nearest_to(main, capsys):
    # One step of slope 24.3, past the shallow well, which is not the first of the minima.
    words = ["--landscape", "double_well", "--start", "2", "0", "--optimizer", "a=sgd,learning_rate=0.06"]
    main(["paths", *words, "--iterations", "1"])
    shallow, end = make_landscape("double_well").minima[1, 0], 2 - 0.06 * 24.3
    # Printed are four digits.
    expected = [shallow - end, (shallow - end) / (2 - shallow)]
    row = rows(capsys.readouterr().out)["a"]
    np.testing.assert_allclose([float(row[1]), float(row[4])], expected, rtol=1e-3)


@pytest.mark.usefixtures("undrawn")
def test_what_cannot_be_measured_is_a_dash(main, capsys):
    # At the centre of a saddle the slope is zero.
    main(["paths", "--landscape", "monkey_saddle", "--start", "0", "0", *STUDY[2:], "--iterations", "1"])
    assert rows(capsys.readouterr().out)["near"] == ["0", "-", "0", "0", "-"]
    main(["paths", *STUDY[:2], "--iterations", "20"])
    assert rows(capsys.readouterr().out)["far"] == ["diverged", "-", "-", "-", "-"]


def test_the_rates_are_one_over_the_largest_curvature_of_either_sign_and_a_hundredth_without_any():
    for rate, curvatures in ((0.02, (1.0, -50.0)), (0.01, (0.0, 0.0))):
        landscape = make_landscape("quadratic", curvatures=curvatures)
        optimizers = paths._default_optimizers(landscape, jax.numpy.zeros(2)).values()
        rates = [optimizer.hyperparameters["learning_rate"] for optimizer in optimizers]
        # The last is at the effective rate of sgd, a tenth.
        assert rates == pytest.approx([rate, rate, rate, rate / 10])


@pytest.mark.usefixtures("undrawn")
def test_the_noise_is_that_of_its_seed(main, capsys):
    ends = []
    for words in (["1", "--seed", "0"], ["1", "--seed", "1"], ["1"], ["0"]):
        main(["paths", *STUDY[2:], "--iterations", "2", "--noise", *words])
        ends.append(rows(capsys.readouterr().out)["near"])
    assert ends[0] == ends[2]
    assert len({tuple(end) for end in ends}) == 3


def test_in_too_many_dimensions_for_the_largest_curvature_optimizers_must_be_given():
    with pytest.raises(InputError, match="optimizer must be given in 5000 dimensions"):
        paths._default_optimizers(make_landscape("chain", dimensions=5000), jax.numpy.zeros(5000))


@pytest.mark.usefixtures("undrawn")
def test_of_many_coordinates_the_first_are_shown(main, capsys):
    main(["paths", "--landscape", "chain,dimensions=5", *STUDY[2:], "--iterations", "1"])
    assert capsys.readouterr().out.splitlines()[0].endswith("1 iterations from (0, 0, 0, …)")


def test_without_methods_they_have_rates_that_suit_the_curvature_at_the_start(main, capsys):
    main(["paths", "--landscape", "quadratic,curvatures=(1,50),rotation=0.5", "--start", "-1", "1.5"])
    printed = capsys.readouterr().out
    assert "quadratic(curvatures=(1, 50), rotation=0.5): 100 iterations from (-1, 1.5)" in printed
    assert "diverged: 0 of 4" in printed
    assert "written: runs/paths-quadratic/" in printed


def test_a_folder_that_cannot_be_written_is_named(main, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(["paths", "--iterations", "2", *STUDY, "--out", "file"])
    assert stopped.value.code == 2
    assert "cannot write 'file/paths.png': File exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--landscape", "rosenbrok"], "landscape: unknown 'rosenbrok'; did you mean 'rosenbrock'?"),
        (["--landscape", "quadratic,curvature=(1,2)"], "unknown 'curvature'; did you mean 'curvatures'?"),
        (["--landscape", "beale", "--start", "9", "9"], "start on beale must lie in [-4.5, 4.5] × [-4.5, 4.5]"),
        (["--start", "1"], "start on valley must have 2 coordinates"),
        (["--optimizer", "a=nestrov,learning_rate=1"], "optimizer: unknown 'nestrov'; did you mean 'nesterov'?"),
        (["--iterations", "0"], "iterations must be an integer of at least 1"),
        (["--noise", "1", "--seed", "-1"], "seed must be an integer of at least 0 and at most 4294967295, not -1"),
        (["--noise", "-1"], "noise must be finite and at least 0"),
    ],
)
def test_a_mistake_is_answered_in_a_line_with_code_2_and_nothing_is_written(words, message, main, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["paths", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
