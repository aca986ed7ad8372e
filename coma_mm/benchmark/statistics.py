"""The spread of a few runs: one kind for every table."""
import statistics

from scipy import stats


def half_width(values: list[float]) -> float | None:
    """Half the width of the 95 % confidence interval of the mean (Student's t); None for fewer than two values."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values)**0.5)


def interval(values: list[float]) -> str:
    """'mean ± half width' of the 95 % confidence interval; without a width for one value."""
    half = half_width(values)
    return f'{statistics.mean(values):.1f}' + ('' if half is None else f' ± {half:.1f}')
