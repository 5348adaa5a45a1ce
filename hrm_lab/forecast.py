"""Where a learning curve is going: a predictive distribution at later steps, from the evaluations so far.

y = c + a g(x) (+ b x), x = step / last step, with g from grids of exponential, shifted power, Weibull, Hill and
logarithmic shapes, and a random walk from the last value beside them. (c, a, b) are integrated out in closed form, so
the answer is a mixture of Gaussians over ~150 shapes and a grid of noise levels: no sampling chain, milliseconds.

Unusual: an evaluation's own sampling noise, p (1 - p) / n, is part of the model; the likelihood counts for at most
eight points, because neighbouring evaluations err together; samples are joint over the steps asked for, so that
"reaches A by step 1 and B by step 2" has a coherent probability. The last value is always given beside it: late in a
run it is hard to beat. There is no bank of past curves yet to hold the intervals against: `calibration` says so.
Sources: Domhan et al. 2015 (IJCAI) for the families, Adriaensen et al. 2023 (arXiv 2310.20447) for the task.
"""

from dataclasses import dataclass

import numpy as np

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_POINTS = 5
EFFECTIVE_POINTS = 8  # neighbouring evaluations share their errors: more points than this add no certainty
NOISES = np.geomspace(0.003, 0.12, 7)  # standard deviation around the curve, beyond sampling
# prior of c (asymptote), a (height of the fall or rise that is left) and b (drift over the horizon): mean, deviation
PRIOR = ((0.6, 0.45), (-0.2, 0.6), (0.0, 0.2))
CURVE, DRIFTING, WALK = 0.7, 0.2, 0.1  # prior probability of the three kinds of member


@dataclass(frozen=True)
class Forecast:
    """What evaluations at the later `steps` may show."""

    steps: np.ndarray  # (S,)
    quantiles: np.ndarray  # (S, 5) at LEVELS
    samples: np.ndarray  # (draws, S) joint over the steps, in [0, 1]
    last: float  # the last value: the forecast to beat
    families: dict[str, float]  # posterior probability of each family of curves
    calibration: str = "uncalibrated"


def forecast(steps, values, n, at, draws: int = 4000, seed: int = 0) -> Forecast:
    """Predict a metric in [0, 1] at later steps.

    steps (K,) increasing and positive, values (K,) in [0, 1], n (K,) or one number: examples behind each value;
    at (S,) later steps, increasing. Values predicted are those that an evaluation on the last n would show.
    ValueError on fewer than five points, on NaN, on a constant curve and on steps out of order.
    """
    steps, values, n, at = check(steps, values, n, at)
    rng = np.random.default_rng(seed)
    x, future = steps / steps[-1], at / steps[-1]
    p = (values * n + 1) / (n + 2)  # off 0 and 1, where the estimate of its own noise would vanish
    sampling = p * (1 - p) / n  # (K,) variance
    temper = min(1.0, EFFECTIVE_POINTS / len(values))
    g, names, prior = shapes(np.concatenate((x, future)))
    kinds = [curve_members(g, np.concatenate((x, future)), values, sampling, temper, drift) for drift in (False, True)]
    walks = walk_members(x, values, sampling, temper)
    weights = np.concatenate([np.log(CURVE) + (kinds[0][0] + prior[:, None]).ravel(),
                              np.log(DRIFTING) + (kinds[1][0] + prior[:, None]).ravel(), np.log(WALK) + walks[0]])
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()
    wanted = 4 * draws  # most of the paths that leave [0, 1] are thrown away
    drawn = rng.choice(len(weights), wanted, p=weights)
    paths, noise = np.zeros((wanted, len(future))), np.zeros(wanted)
    size = g.shape[0] * len(NOISES)
    for i, (_, mean, precision, X) in enumerate(kinds):
        mine = np.flatnonzero(drawn // size == i)
        shape, level = np.divmod(drawn[mine] - i * size, len(NOISES))
        root = np.linalg.cholesky(precision[shape, level])  # (M, P, P); z = root^-T e has covariance precision^-1
        e = rng.standard_normal((len(mine), mean.shape[-1], 1))
        coefficients = mean[shape, level] + np.linalg.solve(root.transpose(0, 2, 1), e)[..., 0]
        paths[mine] = np.einsum("msp,mp->ms", X[shape, len(x):], coefficients)
        noise[mine] = NOISES[level]
    mine = np.flatnonzero(drawn >= 2 * size)
    pace, noise[mine] = walks[1][drawn[mine] - 2 * size].T
    start = values[-1] + np.sqrt(noise[mine] ** 2 + sampling[-1]) * rng.standard_normal(len(mine))
    strides = np.sqrt(np.diff(future, prepend=1.0)) * rng.standard_normal((len(mine), len(future)))
    paths[mine] = start[:, None] + pace[:, None] * strides.cumsum(1)
    inside = ((paths > -0.02) & (paths < 1.02)).all(1)
    paths, noise, drawn = (v[np.argsort(~inside, kind="stable")[:draws]] for v in (paths, noise, drawn))
    paths = paths.clip(0, 1)
    spread = np.sqrt(noise[:, None] ** 2 + paths * (1 - paths) / n[-1])
    samples = (paths + spread * rng.standard_normal(paths.shape)).clip(0, 1)
    member = np.array([*np.tile(np.repeat(names, len(NOISES)), 2), *["walk"] * len(walks[0])])
    shares = {str(name): float((member[drawn] == name).mean()) for name in np.unique(member)}
    return Forecast(at, np.quantile(samples, LEVELS, axis=0).T, samples, float(values[-1]), shares)


def check(steps, values, n, at) -> tuple[np.ndarray, ...]:
    """The arguments of `forecast` as float arrays; ValueError where they cannot be used."""
    steps, values, at = (np.asarray(a, float) for a in (steps, values, at))
    n = np.broadcast_to(np.asarray(n, float), values.shape)
    if values.ndim != 1 or steps.shape != values.shape or len(values) < LEAST_POINTS:
        raise ValueError(f"forecast: got {steps.size} steps and {values.size} values, "
                         f"expected at least {LEAST_POINTS} of each")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        bad = int(np.flatnonzero(~((values >= 0) & (values <= 1)))[0])
        raise ValueError(f"forecast: values[{bad}]: got {values[bad]:g}, expected a number in [0, 1]")
    if np.ptp(values) == 0:
        raise ValueError(f"forecast: got the constant {values[0]:g} {len(values)} times, "
                         "expected a curve that moves: nothing here says where it would go")
    if not (np.isfinite(steps).all() and steps[0] > 0 and (np.diff(steps) > 0).all()):
        raise ValueError(f"forecast: got steps {steps.tolist()}, expected positive and increasing numbers")
    if not (np.isfinite(n).all() and n.min() >= 1):
        raise ValueError(f"forecast: n: got {n.min():g}, expected at least 1 example behind each value")
    if at.ndim != 1 or len(at) == 0 or not np.isfinite(at).all() or (np.diff(at, prepend=steps[-1]) <= 0).any():
        raise ValueError(f"forecast: at: got {at.tolist()}, expected increasing steps after the last, {steps[-1]:g}")
    return steps, values, n, at


def shapes(x: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray]:
    """(G, len(x)) curves that fall towards 0, the family of each, and log prior (G,): families alike, members alike."""
    found = {
        "exponential": [np.exp(-x / tau) for tau in np.geomspace(0.05, 8, 14)],
        "power": [(1 + x / d) ** -a for a in (0.15, 0.3, 0.5, 0.8, 1.2, 2.0) for d in (0.03, 0.2, 1.0)],
        "weibull": [np.exp(-((x / tau) ** k)) for tau in np.geomspace(0.1, 6, 10) for k in (0.5, 1.7, 3.0)],
        "hill": [1 / (1 + (x / tau) ** k) for tau in np.geomspace(0.1, 6, 10) for k in (1.5, 3.0, 6.0, 10.0)],
        "logistic": [1 / (1 + np.exp((x - m) / s)) for m in (0.2, 0.5, 0.8, 1.1, 1.5, 2.0) for s in (0.05, 0.1, 0.2)],
        "logarithm": [-np.log(x + 0.1)],
    }
    names = [name for name, curves in found.items() for _ in curves]
    prior = np.concatenate([np.full(len(curves), -np.log(len(found) * len(curves))) for curves in found.values()])
    return np.stack([curve for curves in found.values() for curve in curves]), names, prior


def curve_members(g: np.ndarray, x: np.ndarray, values: np.ndarray, sampling: np.ndarray, temper: float, drift: bool):
    """Conjugate regression of the values on each shape at each noise level, (G, N) members with P coefficients.

    Returns log evidence (G, N), coefficients' mean (G, N, P) and precision (G, N, P, P), and X (G, len(x), P).
    """
    columns = [np.ones_like(g), g] + [np.broadcast_to(x / x[-1], g.shape)] * drift
    X, K = np.stack(columns, -1), len(values)
    mu, sd = np.array(PRIOR[:len(columns)]).T
    variance = NOISES[:, None] ** 2 + sampling  # (N, K)
    w, seen = temper / variance, X[:, :K]
    rest = values - seen @ mu  # (G, K)
    precision = np.einsum("gkp,nk,gkq->gnpq", seen, w, seen, optimize=True) + np.diag(sd**-2.0)
    b = np.einsum("gkp,nk,gk->gnp", seen, w, rest, optimize=True)
    m = np.linalg.solve(precision, b[..., None])[..., 0]
    fit = np.einsum("nk,gk->gn", w, rest**2) - (b * m).sum(-1)
    evidence = -0.5 * (fit + np.linalg.slogdet(precision)[1] + 2 * np.log(sd).sum())
    evidence -= 0.5 * temper * np.log(2 * np.pi * variance).sum(1)
    return evidence - np.log(len(NOISES)), mu + m, precision, X


def walk_members(x: np.ndarray, values: np.ndarray, sampling: np.ndarray, temper: float):
    """Random walks: log evidence (W,) and (W, 2) deviation over one unit of x, and noise of a value."""
    grid = np.array([(pace, noise) for pace in np.geomspace(0.01, 0.5, 6) for noise in (0.005, 0.02, 0.06)])
    variance = grid[:, :1] ** 2 * np.diff(x) + 2 * grid[:, 1:] ** 2 + sampling[1:] + sampling[:-1]  # (W, K - 1)
    log = -0.5 * (np.diff(values) ** 2 / variance + np.log(2 * np.pi * variance)).sum(1)
    return temper * log - np.log(len(grid)), grid


def describe(f: Forecast, name: str = "value") -> list[str]:
    """One line a step: the median with its 90 % interval, beside the last value."""
    return [f"{name} at step {step:g}: {q[2]:.3f} (90 % interval {q[0]:.3f}-{q[4]:.3f}, {f.calibration}); "
            f"last value {f.last:.3f}" for step, q in zip(f.steps, f.quantiles, strict=True)]
