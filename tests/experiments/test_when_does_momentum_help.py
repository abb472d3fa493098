"""What the study of many tasks and batch sizes runs, goes on from, and says."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import when_does_momentum_help as study

import momentum_jax as mj
from momentum_jax.comparison.protocols import plan_untuned

POINTS = study.points_of(study.FULL)


def test_every_point_has_a_name_of_its_own_and_its_config_and_space_belong_together():
    assert len({point.name for point in POINTS}) == len(POINTS) == 42
    for point in POINTS:
        axes = mj.space.axes_of(point.config, point.space)
        assert axes.keys() == point.optimizers.keys()
        assert all("learning_rate.peak_value" in own for own in axes.values()) == (point.variant == study.COSINE)


def test_the_middle_batch_alone_has_more_optimizers_and_the_variants():
    for point in POINTS:
        labels = {None: study.FEW, study.REFERENCES: (study.SGD, "Adam", "Lion")}
        own = labels.get(point.variant, (study.SGD, study.BALL))
        more = ("QHM", "AggMo") if point.is_middle and point.variant is None else ()
        assert tuple(point.optimizers) == (*own, *more)
        assert point.variant is None or point.is_middle
    assert {label for point in POINTS for label in point.optimizers} == set(study.OPTIMIZERS)


def test_all_protocols_are_compared_but_where_the_effective_learning_rate_is_not_defined():
    for point in POINTS:
        untuned = plan_untuned(point.config, None, None)
        left_out = [name for name, protocol in untuned.items() if protocol.skipped is not None]
        assert left_out == (["matched"] if point.variant in (study.COSINE, study.REFERENCES) else [])


@pytest.mark.parametrize("variant", [study.COUPLED, study.DECOUPLED])
def test_the_decay_is_that_of_the_variants_name(variant):
    point = next(point for point in POINTS if point.variant == variant)
    values = {label: optimizer.hyperparameters for label, optimizer in point.optimizers.items()}
    assert all(own["weight_decay"] == study.DECAY for own in values.values())
    assert values[study.BALL].get("decoupled_weight_decay", False) == (variant == study.DECOUPLED)


def test_the_prediction_is_that_of_the_examples_curvatures(monkeypatch):
    # ½·h·w² with h in {1, 3}: λ = 2 and σ² = 1, and the crossover is σ²/λ²·(1 + β)/(1 − β) = 4.75.
    def loss(params, batch):
        return 0.5 * jnp.mean(batch * params["w"] ** 2)

    rows = np.array([1, 3] * 8, np.float32)
    task = mj.Task(init=lambda key: {"w": jax.random.normal(key, [])}, loss=loss, train=rows)
    monkeypatch.setattr(study, "resolve_task", lambda *_: task)
    found = study.predicted(POINTS[0]._replace(batch_size=2, setting=POINTS[0].setting._replace(sizes={2: 1})))
    assert found["curvature"] == 2.0
    assert found["example_variance"] == 1.0
    assert found["crossover"] == pytest.approx(4.75)
    # With s = ½: 2/(s/λ + λ/19) over 2/(s/λ + λ).
    assert found["effective"] == pytest.approx((0.25 + 2) / (0.25 + 2 / 19), rel=1e-3)


def point(task, size, outcome, value, variant=None, crossover=64, loss="no difference found"):
    gain = {"outcome": outcome, "value": value, "low": value and value / 2, "high": None}
    gains = {study.TIME: gain, study.LOSS: {**gain, "outcome": loss}}
    arms = {study.SGD: {"gains": {}}, study.BALL: {"gains": gains}}
    return {
        "task": task,
        "config": {"batch_size": size},
        "variant": variant,
        "predicted": {"crossover": crossover},
        "protocols": dict.fromkeys(("same", "matched", "tuned"), arms),
    }


def test_the_finding_counts_verdicts_by_protocol_side_of_the_crossover_and_variant():
    points = {
        "a": point("least squares", 8, "no difference found", 1.0),
        "b": point("least squares", 64, "better", 2.0),
        "c": point("least squares", 512, "worse", 0.5),
        "d": point("least squares", 64, "better", 3.0, study.COSINE),
        "e": point("MNIST MLP", 128, "better", None, crossover=None, loss="better"),
    }
    finding = study.find({"points": points, "planned": 42})
    assert finding.startswith(
        "Sometimes: with each optimizer tuned, the heavy ball is ahead of SGD at 2 of 4 points and"
    )
    assert "behind at 1 by the iterations to a target. By the training loss it is ahead of SGD at 1 of 4" in finding
    assert "2.00 (1.00 to ∞) with batches of 64" in finding
    assert "MNIST MLP: no number, since runs miss the target, with batches of 128" in finding
    assert (
        "From there on it is ahead of SGD at 1 of 2 points and behind at 1; below, it is ahead of SGD at 0 of 1 point."
        in finding
    )
    assert "With warm-up and cosine, the tuned heavy ball is ahead of SGD at 1 of 1 point." in finding
    assert finding.endswith("Of 42 points 37 are not run yet.")
    study.draw({"points": points, "planned": 42})


def test_the_finding_says_what_the_tutorial_saw_where_the_effective_rate_explains_it():
    explained = point("least squares", 8, "better", 2.0)
    matched = {study.BALL: {"gains": {study.LOSS: {"outcome": "no difference found", "value": 1.05}}}}
    explained["protocols"] = explained["protocols"] | {"matched": matched}
    (said,) = study.effective({"a": explained})
    assert said.startswith("SGD's training loss is 2.0 times the heavy ball's at the same learning rate and 1.05 times")
    # Of a gain of 1.2 a tenth is less than 1.05.
    explained["protocols"]["same"][study.BALL]["gains"][study.LOSS]["value"] = 1.2
    assert not list(study.effective({"a": explained}))
    assert not list(study.effective({"a": point("least squares", 8, "better", None)}))


def test_without_a_point_the_finding_says_so():
    assert study.find({"points": {}, "planned": 42}) == "Nothing yet: none of 42 points is finished."


def test_points_that_are_there_are_not_run_again_and_named_ones_are(tmp_path, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(study, "estimate", lambda point: 60.0)
    monkeypatch.setattr(study, "measure", lambda point, _: measured.append(point.name) or row(point))

    def row(own):
        return point(own.task, own.batch_size, "better", 2.0)

    file = tmp_path / "when_does_momentum_help.json"
    study.main(["--fast", "--out", str(tmp_path)])
    assert measured == ["least-squares-4"]
    assert "1 of 1 points, 0.0 hours" in capsys.readouterr().err
    written = file.read_bytes()
    study.main(["--fast", "--out", str(tmp_path)])
    assert measured == ["least-squares-4"]
    assert file.read_bytes() == written
    study.main(["--fast", "--out", str(tmp_path), "--points", "least-squares-4"])
    assert measured == 2 * ["least-squares-4"]
    assert list(json.loads(written)["numbers"]["points"]) == ["least-squares-4"]


def test_a_point_that_does_not_exist_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        study.main(["--fast", "--out", str(tmp_path), "--points", "least-squares-5"])
    assert stopped.value.code == 2
    assert "did you mean 'least-squares-4'" in capsys.readouterr().err
