"""The lasso for many targets that share their features: the exact path over a Gram matrix, and coordinate descent.

Minimized is ``|y - X b|^2 / (2 n) + penalty |b|_1``, of centred ``X`` and ``y``. Features enter as the Gram matrix
``X'X / n``, which all targets share, and a target as ``X'y / n``: nothing here grows with the number of rows.

The path follows the solution from the largest penalty down. Between two events (a feature enters or leaves) it is a
straight line, so the solution is exact at every penalty on the way, however correlated the features are
(Osborne, Presnell and Turlach 2000). Where rounding spoils a path, which its optimality conditions tell, coordinate
descent (Friedman et al. 2007) takes over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytofast.kernels.jit import compiled

Doubles = NDArray[np.float64]

_DEPENDENT = 1e-9
"""A feature that active ones explain but for this share of its variance is a combination of them."""
_ROUGH, _SPOILT = 1e-10, 1e-6
_TOLERANCE = 1e-8
_SWEEPS = 20_000


@compiled
def _combined(rows: Doubles, active: NDArray[np.int64], weights: Doubles, k: int, out: Doubles) -> None:
    """``out = sum of weights[t] * rows[active[t]]``, four rows at a time: memory is what it costs."""
    width = out.size
    out[:] = 0.0
    t = 0
    while t + 4 <= k:
        a, b, c, d = rows[active[t]], rows[active[t + 1]], rows[active[t + 2]], rows[active[t + 3]]
        wa, wb, wc, wd = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for j in range(width):
            out[j] += wa * a[j] + wb * b[j] + wc * c[j] + wd * d[j]
        t += 4
    while t < k:
        a, wa = rows[active[t]], weights[t]
        for j in range(width):
            out[j] += wa * a[j]
        t += 1


@compiled
def _times(matrix: Doubles, vector: Doubles, k: int, out: Doubles) -> None:
    """``out[:k] = matrix[:k, :k] @ vector[:k]`` of a symmetric matrix, row by row."""
    for i in range(k):
        out[i] = 0.0
    for t in range(k):
        row, weight = matrix[t], vector[t]
        for i in range(k):
            out[i] += weight * row[i]


@compiled
def _squared(target: Doubles, fitted: Doubles, move: float, direction: Doubles) -> float:
    """Mean squared error of ``fitted + move * direction``."""
    total = 0.0
    for i in range(target.size):
        rest = target[i] - fitted[i] - move * direction[i]
        total += rest * rest
    return total / max(target.size, 1)


@compiled
def _enter(
    gram: Doubles, inverse: Doubles, active: NDArray[np.int64], j: int, k: int, column: Doubles, weights: Doubles
) -> bool:
    """Widen the inverse of the active features' Gram matrix by feature j, unless it is a combination of them."""
    for t in range(k):
        column[t] = gram[j, active[t]]
    _times(inverse, column, k, weights)
    left = gram[j, j]
    for t in range(k):
        left -= column[t] * weights[t]
    if k == active.size or left <= _DEPENDENT * gram[j, j]:
        return False
    for a in range(k):
        share = weights[a] / left
        for b in range(k):
            inverse[a, b] += share * weights[b]
        inverse[a, k] = inverse[k, a] = -share
    inverse[k, k] = 1.0 / left
    active[k] = j
    return True


@compiled
def _renew(gram: Doubles, inverse: Doubles, active: NDArray[np.int64], k: int, column: Doubles, row: Doubles) -> bool:
    """The inverse anew, feature by feature, where so many came and went that rounding has spoilt it."""
    good = True
    for t in range(k):
        good = good and _enter(gram, inverse, active, active[t], t, column, row)
    return good


@compiled
def _leave(
    inverse: Doubles, active: NDArray[np.int64], signs: Doubles, values: Doubles, gone: int, k: int, column: Doubles
) -> None:
    """Narrow the inverse by the active feature at ``gone``; the last one of k takes its place."""
    pivot = inverse[gone, gone]
    for t in range(k):
        column[t] = inverse[gone, t]
    for a in range(k):
        share = column[a] / pivot
        for b in range(k):
            inverse[a, b] -= share * column[b]
    last = k - 1
    active[gone], signs[gone], values[gone] = active[last], signs[last], values[last]
    for t in range(k):
        inverse[gone, t] = inverse[last, t]
    for t in range(k):
        inverse[t, gone] = inverse[t, last]


@compiled
def _slopes(
    gram: Doubles,
    inverse: Doubles,
    active: NDArray[np.int64],
    signs: Doubles,
    k: int,
    slopes: Doubles,
    slope: Doubles,
    column: Doubles,
    weights: Doubles,
) -> bool:
    """How coefficients and products change as the penalty falls; whether rounding has spoilt the inverse."""
    _times(inverse, signs, k, slopes)
    _combined(gram, active, slopes, k, slope)
    worst = 0.0
    for t in range(k):
        column[t] = signs[t] - slope[active[t]]
        worst = max(worst, abs(column[t]))
    if worst <= _ROUGH:
        return True
    # The inverse was updated many times: one step of refinement.
    _times(inverse, column, k, weights)
    for t in range(k):
        slopes[t] += weights[t]
    _combined(gram, active, slopes, k, slope)
    worst = 0.0
    for t in range(k):
        worst = max(worst, abs(signs[t] - slope[active[t]]))
    return worst < _SPOILT


@compiled
def _next_entry(
    rest: Doubles, slope: Doubles, state: NDArray[np.int8], level: float, move: float, barred: int, barred_sign: float
) -> tuple[int, float]:
    """The feature whose product reaches the penalty first, within ``move``, and how far that is; -1: none.

    ``barred`` has just left: it lies on its old side's edge and moves away from it.
    """
    entering = -1
    for j in range(rest.size):
        if state[j] != 0:
            continue
        if 1.0 - slope[j] > 1e-12 and not (j == barred and barred_sign > 0):
            step = (level - rest[j]) / (1.0 - slope[j])
            if step < move:
                move, entering = max(step, 0.0), j
        if 1.0 + slope[j] > 1e-12 and not (j == barred and barred_sign < 0):
            step = (level + rest[j]) / (1.0 + slope[j])
            if step < move:
                move, entering = max(step, 0.0), j
    return entering, move


@compiled
def _next_exit(values: Doubles, slopes: Doubles, k: int, move: float) -> tuple[int, float]:
    """The active feature whose coefficient reaches 0 first, within ``move``, and how far that is; -1: none."""
    leaving = -1
    for t in range(k):
        if slopes[t] * values[t] < 0.0 and -values[t] / slopes[t] < move:
            move, leaving = -values[t] / slopes[t], t
    return leaving, move


@compiled
def _settle(
    gram: Doubles,
    products: Doubles,
    inverse: Doubles,
    active: NDArray[np.int64],
    signs: Doubles,
    values: Doubles,
    k: int,
    penalty: float,
    rest: Doubles,
    column: Doubles,
    weights: Doubles,
) -> float:
    """Mend what rounding left of the solution, from the data themselves; by how much the conditions are violated."""
    worst = 0.0
    for turn in range(2):
        _combined(gram, active, values, k, rest)
        for j in range(rest.size):
            rest[j] = products[j] - rest[j]
        worst = 0.0
        for t in range(k):
            column[t] = rest[active[t]] - penalty * signs[t]
            worst = max(worst, abs(column[t]), -values[t] * signs[t])
        for j in range(rest.size):
            worst = max(worst, abs(rest[j]) - penalty)
        if turn == 0:
            _times(inverse, column, k, weights)
            for t in range(k):
                values[t] += weights[t]
    return worst


@compiled
def _scored(
    penalties: Doubles,
    done: int,
    level: float,
    until: float,
    target: Doubles,
    fitted: Doubles,
    direction: Doubles,
    errors: Doubles,
) -> int:
    """Errors at the penalties from ``done`` on that are no smaller than ``until``; where the next one stands."""
    while done < penalties.size and penalties[done] >= until:
        errors[done] = _squared(target, fitted, max(level - penalties[done], 0.0), direction)
        done += 1
    return done


@compiled
def lasso_path(
    gram: Doubles,
    products: Doubles,
    penalties: Doubles,
    most: int,
    held: Doubles,
    held_target: Doubles,
    errors: Doubles,
    coefficients: Doubles,
) -> bool:
    """Follow one target's path; returns whether its end satisfies the optimality conditions.

    Parameters
    ----------
    gram, products
        ``float64[p, p]`` and ``float64[p]``.
    penalties
        ``float64[m]``, descending.
    most
        Features that can be active at once: no more than the rank of the training rows.
    held, held_target
        ``float64[p, v]`` and ``float64[v]``: validation rows, centred as the training rows were; v may be 0.
    errors
        ``float64[m]``: filled with the mean squared error of the validation rows at each penalty.
    coefficients
        ``float64[p]``: filled with the coefficients at the last penalty.
    """
    p, m, v = gram.shape[0], penalties.size, held_target.size
    coefficients[:] = 0.0
    fitted, direction = np.zeros(v), np.zeros(v)
    entering = int(np.argmax(np.abs(products)))
    level = top = abs(products[entering])
    done = _scored(penalties, 0, level, level, held_target, fitted, direction, errors)
    if done == m:
        return True
    last = penalties[m - 1]
    most = min(most, p)
    inverse, scratch = np.zeros((most, most)), np.zeros((5, most))
    signs, values, slopes, column, weights = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    active = np.zeros(most, dtype=np.int64)
    # 0: outside, 1: active, 2: a combination of active features.
    state = np.zeros(p, dtype=np.int8)
    slope, rest = np.zeros(p), products.copy()
    k, barred, barred_sign = 0, -1, 0.0
    for _ in range(20 * most + 100):
        if entering >= 0:
            state[entering] = 2
            if _enter(gram, inverse, active, entering, k, column, weights):
                state[entering], values[k], signs[k] = 1, 0.0, np.sign(rest[entering])
                k += 1
        if not _slopes(gram, inverse, active, signs, k, slopes, slope, column, weights) and not (
            _renew(gram, inverse, active, k, column, weights)
            and _slopes(gram, inverse, active, signs, k, slopes, slope, column, weights)
        ):
            return False
        _combined(held, active, slopes, k, direction)
        # A straight line to the next event, or to the last penalty.
        entering, move = _next_entry(rest, slope, state, level, level - last, barred, barred_sign)
        leaving, move = _next_exit(values, slopes, k, move)
        if leaving >= 0:
            entering = -1
        ended = entering < 0 and leaving < 0
        until = -np.inf if ended else level - move
        done = _scored(penalties, done, level, until, held_target, fitted, direction, errors)
        values[:k] += move * slopes[:k]
        fitted += move * direction
        rest -= move * slope
        level = last if ended else level - move
        rest[active[:k]] = signs[:k] * level
        if done == m:
            break
        barred = -1
        if leaving >= 0:
            barred, barred_sign = active[leaving], signs[leaving]
            _leave(inverse, active, signs, values, leaving, k, column)
            k -= 1
            state[barred] = 0
            state[state == 2] = 0
    if done < m:
        return False
    worst = _settle(gram, products, inverse, active, signs, values, k, last, rest, column, weights)
    for t in range(k):
        coefficients[active[t]] = values[t]
    return bool(worst <= _TOLERANCE * top)


@compiled
def descend(
    gram: Doubles,
    products: Doubles,
    penalties: Doubles,
    held: Doubles,
    held_target: Doubles,
    errors: Doubles,
    coefficients: Doubles,
) -> bool:
    """Cyclic coordinate descent down the penalties, each from the solution before; returns whether all converged.

    Slower than the path by far where features are correlated, but nothing can go wrong in it. Parameters as there.
    """
    p, v = gram.shape[0], held_target.size
    coefficients[:] = 0.0
    rest = products.copy()
    fitted, direction = np.zeros(v), np.zeros(v)
    top = 0.0
    for j in range(p):
        top = max(top, abs(products[j]))
    converged = True
    for i in range(penalties.size):
        penalty = penalties[i]
        settled = False
        for _ in range(_SWEEPS):
            change = 0.0
            for j in range(p):
                own = gram[j, j]
                if own <= 0.0:
                    continue
                old = coefficients[j]
                pull = rest[j] + own * old
                new = max(abs(pull) - penalty, 0.0) / own
                new = new if pull > 0 else -new
                if new != old:
                    moved = new - old
                    coefficients[j] = new
                    row = gram[j]
                    for other in range(p):
                        rest[other] -= moved * row[other]
                    change = max(change, abs(moved) * own)
            if change <= 1e-9 * top:
                settled = True
                break
        converged = converged and settled
        fitted[:] = 0.0
        for j in range(p):
            if coefficients[j] != 0.0:
                for r in range(v):
                    fitted[r] += coefficients[j] * held[j, r]
        errors[i] = _squared(held_target, fitted, 0.0, direction)
    return converged


@compiled
def lasso_paths(
    gram: Doubles,
    products: Doubles,
    penalties: Doubles,
    most: int,
    held: Doubles,
    held_targets: Doubles,
    errors: Doubles,
    coefficients: Doubles,
    states: NDArray[np.int8],
) -> None:
    """The paths of many targets, one a row of every array but ``gram`` and ``held``.

    ``states``: 0 the path, 1 coordinate descent instead, 2 and that did not settle either.
    """
    for q in range(products.shape[0]):
        states[q] = 0
        good = lasso_path(gram, products[q], penalties[q], most, held, held_targets[q], errors[q], coefficients[q])
        if not good:
            good = descend(gram, products[q], penalties[q], held, held_targets[q], errors[q], coefficients[q])
            states[q] = 1 if good else 2
