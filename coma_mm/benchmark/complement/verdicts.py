"""The statistics of the study: intervals of paired differences, verdicts, the number of pairs, and Holm's correction."""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

SMALLEST = 0.5
"""The smallest effect of interest, in points of top-1 accuracy."""


class Difference(NamedTuple):
    """What pairs of runs say about a difference.

    Args:
        pairs (int): Their number.
        mean (float): Of the differences.
        sd (float): Of the differences.
        low, high (float): Ends of the 95 % interval of the mean (Student's t).
        low90, high90 (float): Ends of the 90 % interval.
        p (float): Of the two-sided t-test.
    """
    pairs: int
    mean: float
    sd: float
    low: float
    high: float
    low90: float
    high90: float
    p: float


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The difference first - second of runs that are paired by their places.

    Raises:
        ValueError: Fewer than two pairs, or numbers without a partner.
    """
    values = np.subtract(first, second, dtype=float)
    if len(first) != len(second) or len(values) < 2:
        raise ValueError(f'{len(first)} and {len(second)} values: expected two pairs or more')
    n, mean, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    error = sd / n**0.5
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    found = Difference(n, mean, sd, mean, mean, mean, mean, p)
    (low, high), (low90, high90) = interval(found), interval(found, 0.9)
    return found._replace(low=low, high=high, low90=low90, high90=high90)


def interval(found: Difference, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean (Student's t) at a confidence."""
    half = float(stats.t.ppf((1 + confidence) / 2, found.pairs - 1) * found.sd / found.pairs**0.5)
    return found.mean - half, found.mean + half


def verdict(found: Difference, smallest: float = SMALLEST) -> str:
    """The word for a difference.

    Args:
        found (Difference): What was measured.
        smallest (float): The smallest effect of interest. Defaults to `SMALLEST`.

    Returns:
        str: 'better' or 'worse' if the 95 % interval excludes 0; 'equivalent' if the 90 % interval lies within ±smallest;
        'better, and equivalent' if both hold; 'undecided' if neither does.
    """
    words = []
    if found.low > 0 or found.high < 0:
        words.append('better' if found.low > 0 else 'worse')
    if -smallest < found.low90 and found.high90 < smallest:
        words.append('equivalent')
    return ', and '.join(words) or 'undecided'


def upper_sd(sd: float, pairs: int, confidence: float = 0.8) -> float:
    """The upper confidence limit of a standard deviation that a few pairs have given."""
    return float(sd * ((pairs - 1) / stats.chi2.ppf(1 - confidence, pairs - 1))**0.5)


def pairs_needed(sd: float, smallest: float = SMALLEST, power: float = 0.8, most: int = 10**4) -> int:
    """The number of pairs that is enough for both claims, by Student's t.

    It is the smallest n with (t(0.975) + t(power))² sd² / smallest² ≤ n, which finds an effect of `smallest`, and with
    (t(0.95) + t((1 + power) / 2))² sd² / smallest² ≤ n, which shows an effect of 0 to be equivalent; t with n - 1 degrees of
    freedom.

    Args:
        sd (float): Of the paired difference.
        smallest (float): The smallest effect of interest. Defaults to `SMALLEST`.
        power (float): Of both claims. Defaults to 0.8.
        most (int): Where the search ends. Defaults to 10 000.

    Returns:
        int: At least 2.
    """
    levels = ((0.975, power), (0.95, (1 + power) / 2))
    for n in range(2, most):
        if all(sum(stats.t.ppf(level, n - 1))**2 * sd**2 / smallest**2 <= n for level in levels):
            return n
    return most


def holm(p: Sequence[float]) -> list[float]:
    """P-values of a family of claims, corrected by Holm's method (1979)."""
    order = np.argsort(p)
    corrected = np.minimum(1, np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1)))
    found = np.empty(len(p))
    found[order] = corrected
    return found.tolist()
