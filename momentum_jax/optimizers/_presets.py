"""The methods of the family of QHM as optimizers, under their own papers' parameters.

Each is `qhm` with the hyperparameters that `family.to_qhm` gives, and its state a `QHMState`. For weight decay or an
accumulator dtype use `qhm` itself with what `convert(…, name, "qhm")` returns.
"""

import optax

from momentum_jax.optimizers._hyperparameters import Scalar, ScalarOrSchedule
from momentum_jax.optimizers._qhm import qhm
from momentum_jax.optimizers.family import to_qhm


def accelerated_sgd(
    learning_rate: Scalar, gamma: Scalar, alpha: Scalar, beta: Scalar
) -> optax.GradientTransformationExtraArgs:
    r"""Accelerated SGD for least squares (not PyTorch's `ASGD`, which is averaged SGD).

    .. math::
      y_t = \alpha x_t + (1 - \alpha) v_t, \qquad x_{t+1} = y_t - \delta g(y_t), \qquad
      v_{t+1} = \beta y_t + (1 - \beta) v_t - \gamma g(y_t), \qquad v_0 = x_0

    The parameters are y, where the gradient is taken. The paper's x is p + ν·η·a, with QHM's ν, η and
    average a.

    Args:
      learning_rate: the short step δ ≥ 0, a float or a scalar array (traced or not).
      gamma: the long step γ ≥ δ, likewise.
      alpha: α in [0, 1), likewise.
      beta: β in [0, 1], likewise.

    Returns:
      `qhm` with m = α·(1 − β), η = δ + (1 − α)·(γ − δ)/(1 − m) and ν = 1 − δ/η.

    Raises:
      InputError: an argument is out of its range, a schedule, or γ < δ, with which ν would be negative. Of
        traced arguments only shape and dtype are checked.

    References:
      Jain et al., `Accelerating stochastic gradient descent for least squares regression
      <https://arxiv.org/abs/1704.08227>`_, 2018.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = accelerated_sgd(0.25, gamma=1.0, alpha=0.5, beta=0.5)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # δ + (1 − α)·(γ − δ)
      -0.625
    """
    return qhm(
        *to_qhm("accelerated_sgd", {"learning_rate": learning_rate, "gamma": gamma, "alpha": alpha, "beta": beta})
    )


def accsgd(learning_rate: Scalar, kappa: Scalar = 1000.0, xi: Scalar = 10.0) -> optax.GradientTransformationExtraArgs:
    r"""AccSGD: accelerated SGD under three parameters, the short step, the long step and the statistical advantage.

    .. math::
      v_{t+1} = A \Bigl(w_t - \frac{\kappa\delta}{0.7} g(w_t)\Bigr) + (1 - A) v_t, \qquad
      w_{t+1} = \frac{0.7 (w_t - \delta g(w_t)) + A v_{t+1}}{0.7 + A}, \qquad
      A = \frac{0.49 \xi}{\kappa}, \qquad v_0 = w_0

    The parameters are w, where the gradient is taken. Of the three only ξ decides on ν and on η/δ.

    Args:
      learning_rate: the short step δ ≥ 0, a float or a scalar array (traced or not).
      kappa: the long step parameter κ ≥ 1, likewise. The paper asks for κ ≥ ξ².
      xi: the statistical advantage ξ in [1/0.7, κ/0.49], likewise.

    Returns:
      `qhm` with η = 0.7·(1 + ξ)·δ/1.7, m = 0.7·(1 − A)/(0.7 + A) and ν = (0.7·ξ − 1)/(0.7·(1 + ξ)).

    Raises:
      InputError: an argument is out of its range or a schedule. Below ξ = 1/0.7 the long step is shorter than the
        short one, and ν would be negative. Of traced arguments only shape and dtype are checked.

    References:
      Kidambi et al., `On the insufficiency of existing momentum schemes for stochastic optimization
      <https://arxiv.org/abs/1803.05591>`_, 2018, algorithm 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = accsgd(0.1, kappa=49.0, xi=10.0)  # A = 0.1
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # (0.7·δ + A·A·κ·δ/0.7)/(0.7 + A)
      -0.175
    """
    return qhm(*to_qhm("accsgd", {"learning_rate": learning_rate, "kappa": kappa, "xi": xi}))


def mass(learning_rate: Scalar, eta2: Scalar, gamma: Scalar = 0.9) -> optax.GradientTransformationExtraArgs:
    r"""MaSS: Nesterov momentum with a compensation term.

    .. math::
      w_{t+1} = u_t - \eta_1 g(u_t), \qquad
      u_{t+1} = (1 + \gamma) w_{t+1} - \gamma w_t + \eta_2 g(u_t), \qquad w_0 = u_0

    The parameters are u, where the gradient is taken. The paper's w is p + ν·η·a, with QHM's ν, η and average a.
    At η₂ = 0 it is `nesterov`. The authors' code takes α and κ̃: γ = (1 − α)/(1 + α) and η₂ = η₁·(1 − 1/κ̃)/(1 + α).

    Args:
      learning_rate: the step size η₁ ≥ 0, a float or a scalar array (traced or not).
      eta2: the secondary step size η₂ in [0, γ·η₁], likewise.
      gamma: the acceleration parameter γ in [0, 1), likewise.

    Returns:
      `qhm` with η = (η₁ − η₂)/(1 − γ), m = γ and ν = (γ·η₁ − η₂)/(η₁ − η₂).

    Raises:
      InputError: an argument is out of its range, a schedule, or η₂ > γ·η₁, with which ν would be negative.
        Of traced arguments only shape and dtype are checked.

    References:
      Liu and Belkin, `Accelerating SGD with momentum for over-parameterized learning
      <https://arxiv.org/abs/1810.13395>`_, 2020, algorithm 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = mass(1.0, eta2=0.25, gamma=0.5)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # (1 + γ)·η₁ − η₂
      -1.25
    """
    return qhm(*to_qhm("mass", {"learning_rate": learning_rate, "eta2": eta2, "gamma": gamma}))


def synthesized_nesterov(learning_rate: Scalar, beta1: Scalar, beta2: Scalar) -> optax.GradientTransformationExtraArgs:
    r"""The synthesized Nesterov variant, with one momentum for the step and one for the look-ahead.

    .. math::
      \xi_{t+1} = \xi_t + \beta_1 (\xi_t - \xi_{t-1}) - \alpha g(y_t), \qquad
      y_{t+1} = \xi_{t+1} + \beta_2 (\xi_{t+1} - \xi_t), \qquad \xi_{-1} = \xi_0 = y_0

    The parameters are y, where the gradient is taken. The paper's ξ is p + α·β₂·a/(1 − β₁), with the average a in the
    state. At β₂ = 0 it is `momentum`, and at β₂ = β₁ `nesterov`.

    Args:
      learning_rate: α ≥ 0, a float or a scalar array (traced or not).
      beta1: β₁ in [0, 1), likewise.
      beta2: β₂ in [0, β₁/(1 − β₁)], likewise.

    Returns:
      `qhm` with η = α/(1 − β₁), m = β₁ and ν = 1 − β₂·(1 − β₁)/β₁.

    Raises:
      InputError: an argument is out of its range, a schedule, or β₂ > β₁/(1 − β₁), with which ν would be negative.
        Of traced arguments only shape and dtype are checked.

    References:
      Lessard, Recht and Packard, `Analysis and design of optimization algorithms via integral quadratic constraints
      <https://arxiv.org/abs/1408.3595>`_, 2016; as a QHM: Ma and Yarats, 2019 (1810.06801), table 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = synthesized_nesterov(0.5, beta1=0.5, beta2=0.25)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # α·(1 + β₂)
      -0.625
    """
    return qhm(*to_qhm("synthesized_nesterov", {"learning_rate": learning_rate, "beta1": beta1, "beta2": beta2}))


def primal_averaging(learning_rate: Scalar, c: Scalar = 0.1) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic primal averaging: gradient descent on z, at gradients of the average x of its points.

    .. math::
      z_{t+1} = z_t - \gamma g(x_t), \qquad x_{t+1} = (1 - c) x_t + c z_{t+1}, \qquad z_0 = x_0

    The parameters are x, where the gradient is taken. The paper's z is p − γ·(1 − c)/c·a, with the average a in the
    state. It is `momentum` at the learning rate γ·c.

    Args:
      learning_rate: γ ≥ 0, a float or a scalar array (traced or not).
      c: the weight c in (0, 1] of the newest point, likewise.

    Returns:
      `qhm` with η = γ, m = 1 − c and ν = 1.

    Raises:
      InputError: an argument is out of its range or a schedule.

    References:
      Defazio, `Understanding the role of momentum in non-convex optimization <https://arxiv.org/abs/2010.00406>`_,
      2020.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = primal_averaging(1.0, c=0.25)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # c·γ
      -0.25
    """
    return qhm(*to_qhm("primal_averaging", {"learning_rate": learning_rate, "c": c}))


def mars(
    learning_rate: ScalarOrSchedule, gamma: Scalar = 0.025, beta1: ScalarOrSchedule = 0.95
) -> optax.GradientTransformationExtraArgs:
    r"""MARS-approx without its preconditioner and clipping: a moving average of corrected gradients.

    .. math::
      c_t = g_t + \gamma \frac{\beta_1}{1 - \beta_1} (g_t - g_{t-1}), \qquad
      m_t = \beta_1 m_{t-1} + (1 - \beta_1) c_t, \qquad x_{t+1} = x_t - \eta m_t, \qquad m_0 = g_0 = 0

    The parameters are x, where the gradient is taken. The paper's code starts from g₀ = 0. The paper's algorithm starts
    from x₁ = x₀, so that c₁ = g₁: set the average in the state to −γ/(1 − γ)·g₁ before the first step. At γ = 1 this is
    no QHM, which would be gradient descent: m₁ − g₁ is −β₁·g₁ and shrinks by β₁ in each step.

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      gamma: the scale γ in [0, 1] of the correction, a float or a scalar array.
      beta1: β₁ in [0, 1), a float, a scalar array or a schedule.

    Returns:
      `qhm` with the same η, m = β₁ and ν = 1 − γ.

    Raises:
      InputError: an argument is out of its range. With γ > 1 ν would be negative. Of traced arguments only shape and
        dtype are checked.

    References:
      Yuan et al., `MARS: unleashing the power of variance reduction for training large models
      <https://arxiv.org/abs/2411.10438>`_, 2024.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = mars(1.0, gamma=0.5, beta1=0.75)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # 1 − β₁ + γ·β₁
      -0.625
    """
    return qhm(*to_qhm("mars", {"learning_rate": learning_rate, "gamma": gamma, "beta1": beta1}))


def grokfast(
    learning_rate: ScalarOrSchedule, alpha: ScalarOrSchedule = 0.98, lamb: ScalarOrSchedule = 2.0
) -> optax.GradientTransformationExtraArgs:
    r"""Grokfast-EMA on gradient descent: slow gradients, the moving average, are amplified.

    .. math::
      e_t = \alpha e_{t-1} + (1 - \alpha) g_t, \qquad p_{t+1} = p_t - \eta (g_t + \lambda e_t), \qquad e_0 = 0

    The average in the state is e. The paper's code starts from e₀ = g₁: set the average in the state to the first
    gradient before the first step.

    Args:
      learning_rate: η ≥ 0, a float, a scalar array (traced or not) or an `optax.Schedule`.
      alpha: α in [0, 1), likewise.
      lamb: the amplification λ ≥ 0, likewise.

    Returns:
      `qhm` at the learning rate η·(1 + λ), with m = α and ν = λ/(1 + λ).

    Raises:
      InputError: an argument is out of its range.

    References:
      Lee et al., `Grokfast: accelerated grokking by amplifying slow gradients <https://arxiv.org/abs/2405.20233>`_,
      2024.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = grokfast(0.25, alpha=0.75, lamb=2.0)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # η·(1 + λ·(1 − α))
      -0.375
    """
    return qhm(*to_qhm("grokfast", {"learning_rate": learning_rate, "alpha": alpha, "lamb": lamb}))


def outer_nesterov(
    learning_rate: Scalar, outer_learning_rate: ScalarOrSchedule = 0.7, momentum: Scalar = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Outer Nesterov momentum (DiLoCo with one worker, SNOO) around K = 1 step of gradient descent.

    .. math::
      \Delta_t = \eta g_t, \qquad b_{t+1} = \mu b_t + \Delta_t, \qquad
      p_{t+1} = p_t - \eta_{outer} (\Delta_t + \mu b_{t+1}), \qquad b_0 = 0

    The parameters are those after the outer step, where the next inner step begins. It is `nesterov` at the learning
    rate η_outer·η. With K > 1 inner steps it is no QHM, which does not keep the parameters of the last outer step: use
    `outer_momentum`.

    Args:
      learning_rate: the inner learning rate η ≥ 0, a float or a scalar array (traced or not).
      outer_learning_rate: η_outer ≥ 0, a float, a scalar array or an `optax.Schedule`.
      momentum: μ in [0, 1), a float or a scalar array.

    Returns:
      `qhm` at the learning rate η_outer·η/(1 − μ), with m = ν = μ.

    Raises:
      InputError: an argument is out of its range, or one that must be a number is a schedule.

    References:
      Douillard et al., `DiLoCo: distributed low-communication training of language models
      <https://arxiv.org/abs/2311.08105>`_, 2023; `SNOO: step-K Nesterov outer optimizer
      <https://arxiv.org/abs/2510.15830>`_, 2025.

    Examples:
      >>> import jax.numpy as jnp
      >>> optimizer = outer_nesterov(0.5, outer_learning_rate=0.5, momentum=0.5)
      >>> params = jnp.array(1.0)
      >>> print(optimizer.update(jnp.array(1.0), optimizer.init(params))[0])  # η_outer·η·(1 + μ)
      -0.375
    """
    values = {"learning_rate": learning_rate, "outer_learning_rate": outer_learning_rate, "momentum": momentum}
    return qhm(*to_qhm("outer_nesterov", values))
