"""Where a learning curve is going: a Bayesian average over ~120 shapes in closed form, and joint samples from it.

u = c + a g(x) (+ b x), x = epoch / last epoch seen, with g from grids of exponential, shifted power, Weibull, Hill,
logistic and logarithmic shapes, and a random walk from the last value beside them. (c, a, b) are integrated out in
closed form, so the answer is a mixture of Gaussians over shapes and noise levels: no sampling chain, milliseconds.

Unusual: a loss is seen as the log of its share of the highest loss so far (plus one member on the plain scale, weighed
by the Jacobian), because tiny losses make nonsense of one noise level; the highest is nearly always the first, but one
that has risen many times above its first would meet the priors and the bound below. An accuracy's own sampling noise,
p (1 - p) / n, is part of the model; and the likelihood counts for at most eight points, because neighbouring
evaluations err together.
Raw intervals are too narrow: `hrm_lab.forecast_bank` holds them against past curves.
Sources: Domhan et al. 2015 (IJCAI) for the families, Adriaensen et al. 2023 (arXiv 2310.20447) for the task.
"""

import numpy as np

EFFECTIVE_POINTS = 8  # neighbouring evaluations share their errors: more points than this add no certainty
SMALLEST = 1e-6  # a loss below this share of the highest is taken as this share: log 0 says nothing
# kind -> members: on the log scale?, with drift?, prior probability; the rest is the random walk's
MEMBERS = {"accuracy": ((False, False, 0.7), (False, True, 0.2)),
           "loss": ((True, False, 0.35), (True, True, 0.3), (False, True, 0.25))}
# prior of c (asymptote), a (height of the fall or rise that is left), b (drift over the horizon): mean, deviation
PRIORS = {("accuracy", False): ((0.6, 0.45), (-0.2, 0.6), (0.0, 0.2)),
          ("loss", True): ((-1.0, 1.5), (0.5, 1.5), (-0.5, 1.2)),
          ("loss", False): ((0.4, 0.5), (0.4, 0.6), (0.0, 0.3))}
# deviation around the curve beyond sampling, on the plain and on the log scale
NOISES = {False: np.geomspace(0.003, 0.12, 7), True: np.geomspace(0.005, 0.35, 7)}
SENSIBLE = {"accuracy": (-0.02, 1.02), "loss": (np.log(SMALLEST), np.log(6.0))}  # paths outside are thrown away


def scaled(values: np.ndarray, kind: str, seen: int | None = None) -> np.ndarray:
    """The scale that forecasts live on: an accuracy as it is, a loss as log of its share of the highest.

    seen: how many of the values the forecast knows (default: all), of which the highest is taken.
    """
    return values if kind == "accuracy" else np.log(np.maximum(values / values[:seen].max(), SMALLEST))


def unscaled(u: np.ndarray, values: np.ndarray, kind: str) -> np.ndarray:
    """Back in the units of the values seen."""
    return u if kind == "accuracy" else values.max() * np.exp(u)


def look_ahead(x: np.ndarray, u: np.ndarray, n: np.ndarray | None, future: np.ndarray, kind: str, draws: int,
               rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
    """Samples (draws, S) of the scaled curve at `future` (S,), joint over them, and each family's posterior share.

    x (K,) and u (K,): epochs as shares of the last, and the scaled values; n (K,) examples behind each accuracy.
    """
    sampling = np.zeros(len(u))
    if kind == "accuracy" and n is not None:
        p = (u * n + 1) / (n + 2)  # off 0 and 1, where the estimate of its own noise would vanish
        sampling = p * (1 - p) / n
    temper = min(1.0, EFFECTIVE_POINTS / len(u))
    both = np.concatenate((x, future))
    g, names, prior = shapes(both)
    groups, weights = [], []
    for log, drift, share in MEMBERS[kind]:
        plain = u if log or kind == "accuracy" else np.exp(u)
        found = curve_members(g, both, plain, sampling, temper, PRIORS[kind, log], NOISES[log], drift)
        jacobian = temper * u.sum() if kind == "loss" and log else 0.0
        groups.append((log or kind == "accuracy", NOISES[log], *found[1:]))
        weights.append(np.log(share) + (found[0] + prior[:, None]).ravel() - jacobian)
    walk = walk_members(x, u, sampling, temper)
    jacobian = temper * u.sum() if kind == "loss" else 0.0
    weights.append(np.log(1 - sum(m[2] for m in MEMBERS[kind])) + walk[0] - jacobian)
    weights = np.concatenate(weights)
    weights = np.exp(weights - weights.max())
    wanted = 2 * draws  # paths that leave what is sensible are thrown away
    drawn = rng.choice(len(weights), wanted, p=weights / weights.sum())
    paths = np.zeros((wanted, len(future)))
    size = g.shape[0] * len(NOISES[False])
    for i, (same_scale, noises, mean, precision, X) in enumerate(groups):
        mine = np.flatnonzero(drawn // size == i)
        shape, level = np.divmod(drawn[mine] - i * size, len(noises))
        root = np.linalg.cholesky(precision[shape, level])  # (M, P, P); root^-T e has covariance precision^-1
        e = rng.standard_normal((len(mine), mean.shape[-1], 1))
        coefficients = mean[shape, level] + np.linalg.solve(root.transpose(0, 2, 1), e)[..., 0]
        found = np.einsum("msp,mp->ms", X[shape, len(x):], coefficients)
        found += noises[level][:, None] * rng.standard_normal(found.shape)
        if not same_scale:  # a plain loss; below zero it is out of range
            found = np.log(np.maximum(found, 0.5 * SMALLEST))
        paths[mine] = found
    mine = np.flatnonzero(drawn >= len(groups) * size)
    pace, noise = walk[1][drawn[mine] - len(groups) * size].T
    start = u[-1] + np.sqrt(noise**2 + sampling[-1])[:, None] * rng.standard_normal((len(mine), 1))
    strides = np.sqrt(np.diff(future, prepend=1.0)) * rng.standard_normal((len(mine), len(future)))
    paths[mine] = start + pace[:, None] * strides.cumsum(1)
    low, high = SENSIBLE[kind]
    # Half an evaluation's noise above 1 is still a curve that ends at 1, so accuracies are judged with some room.
    room = 0.0 if kind == "loss" else 3 * float(np.sqrt(sampling[-1]))
    inside = ((paths > low - room) & (paths < high + room)).all(1)
    kept = np.argsort(~inside, kind="stable")[:draws]
    samples = paths[kept]
    if kind == "accuracy":
        if n is not None:
            p = samples.clip(0, 1)
            samples = samples + np.sqrt(p * (1 - p) / n[-1]) * rng.standard_normal(samples.shape)
        samples = samples.clip(0, 1)
    else:
        samples = samples.clip(low, high)
    member = np.concatenate([*[np.repeat(names, len(NOISES[False]))] * len(groups), ["walk"] * len(walk[0])])
    shares = {str(name): float((member[drawn[kept]] == name).mean()) for name in np.unique(member)}
    return samples, shares


def shapes(x: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray]:
    """(G, len(x)) curves that fall towards 0, the family of each, and log prior (G,): families alike, members alike."""
    found = {
        "exponential": [np.exp(-x / tau) for tau in np.geomspace(0.05, 8, 14)],
        "power": [(1 + x / d) ** -a for a in (0.15, 0.3, 0.5, 0.8, 1.2, 2.0) for d in (0.03, 0.2, 1.0)],
        "weibull": [np.exp(-((x / tau) ** k)) for tau in np.geomspace(0.1, 6, 10) for k in (0.5, 1.7, 3.0)],
        "hill": [1 / (1 + (x / tau) ** k) for tau in np.geomspace(0.1, 6, 10) for k in (1.5, 3.0, 6.0, 10.0)],
        "logistic": [1 / (1 + np.exp(((x - m) / s).clip(-50, 50)))
                     for m in (0.2, 0.5, 0.8, 1.1, 1.5, 2.0) for s in (0.05, 0.1, 0.2)],
        "logarithm": [-np.log(x + 0.1)],
    }
    names = [name for name, curves in found.items() for _ in curves]
    prior = np.concatenate([np.full(len(curves), -np.log(len(found) * len(curves))) for curves in found.values()])
    return np.stack([curve for curves in found.values() for curve in curves]), names, prior


def curve_members(g: np.ndarray, x: np.ndarray, values: np.ndarray, sampling: np.ndarray, temper: float, prior: tuple,
                  noises: np.ndarray, drift: bool):
    """Conjugate regression of the values on each shape at each noise level, (G, N) members with P coefficients.

    Returns log evidence (G, N), coefficients' mean (G, N, P) and precision (G, N, P, P), and X (G, len(x), P).
    """
    columns = [np.ones_like(g), g] + [np.broadcast_to(x / x[-1], g.shape)] * drift
    X, K = np.stack(columns, -1), len(values)
    mu, sd = np.array(prior[:len(columns)]).T
    variance = noises[:, None] ** 2 + sampling  # (N, K)
    w, seen = temper / variance, X[:, :K]
    rest = values - seen @ mu  # (G, K)
    precision = np.einsum("gkp,nk,gkq->gnpq", seen, w, seen, optimize=True) + np.diag(sd**-2.0)
    b = np.einsum("gkp,nk,gk->gnp", seen, w, rest, optimize=True)
    m = np.linalg.solve(precision, b[..., None])[..., 0]
    fit = np.einsum("nk,gk->gn", w, rest**2) - (b * m).sum(-1)
    evidence = -0.5 * (fit + np.linalg.slogdet(precision)[1] + 2 * np.log(sd).sum())
    evidence -= 0.5 * temper * np.log(2 * np.pi * variance).sum(1)
    return evidence - np.log(len(noises)), mu + m, precision, X


def walk_members(x: np.ndarray, values: np.ndarray, sampling: np.ndarray, temper: float):
    """Random walks: log evidence (W,) and (W, 2) deviation over one unit of x, and noise of a value."""
    grid = np.array([(pace, noise) for pace in np.geomspace(0.01, 0.5, 6) for noise in (0.005, 0.02, 0.06)])
    variance = grid[:, :1] ** 2 * np.diff(x) + 2 * grid[:, 1:] ** 2 + sampling[1:] + sampling[:-1]  # (W, K - 1)
    log = -0.5 * (np.diff(values) ** 2 / variance + np.log(2 * np.pi * variance)).sum(1)
    return temper * log - np.log(len(grid)), grid
