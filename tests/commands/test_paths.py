"""`momentum-jax paths`: pictures and measures of any landscape, and mistakes."""

import pytest

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
    assert "output folder 'file' cannot be written: File exists" in capsys.readouterr().err


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
