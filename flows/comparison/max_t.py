"""Whether any of several models is better than the champion, asked once: the largest t over all, under permutation.

The jackknife turns each model's mAP into one pseudo-value a unit. If no model were better, and all exchangeable within
a camera, dealing the models anew in every camera would make a largest t as large as the one found in a share p of all
deals. That the models see the same frames, and so rise and fall together, is accounted for.

Sources: Westfall and Young, "Resampling-Based Multiple Testing", 1993; Tukey 1958 (pseudo-values).
"""

from __future__ import annotations

import numpy as np

from flows.comparison.predictions import Floats

_DEALS_AT_ONCE = 1000


def pseudo_values(samples: Floats) -> Floats:
    """Turn jackknife samples (..., 1 + num_units), the first without any unit left out, into (..., num_units)."""
    num_units = samples.shape[-1] - 1
    values: Floats = num_units * samples[..., :1] - (num_units - 1) * samples[..., 1:]
    return values


def p_any_better(values: Floats, deals: int, seed: int) -> float | None:
    """P value of "none is better than the first", one-sided.

    Args:
        values: (1 + num_candidates, num_units) pseudo-values, the champion first.
        deals: Random deals, the one that was observed counted in.

    Returns:
        None where there are fewer than two units, or a value is not defined.
    """
    num_models, num_units = values.shape
    if num_units < 2 or num_models < 2 or not np.isfinite(values).all():
        return None
    observed = float(_largest_t(values[None])[0])
    rng = np.random.default_rng(seed)
    reached, left = 1, deals - 1
    while left > 0:
        num = min(left, _DEALS_AT_ONCE)
        order = rng.permuted(np.broadcast_to(np.arange(num_models), (num, num_units, num_models)), axis=2)
        dealt = np.take_along_axis(np.broadcast_to(values.T, order.shape), order, axis=2)  # (num, num_units, models)
        reached += int((_largest_t(dealt.transpose(0, 2, 1)) >= observed - 1e-9).sum())
        left -= num
    return reached / max(deals, 1)


def _largest_t(values: Floats) -> Floats:
    """Largest t of the differences to the first model: (R, 1 + num_candidates, num_units) to (R,)."""
    gaps = values[:, 1:] - values[:, :1]
    mean, spread = gaps.mean(axis=2), gaps.std(axis=2, ddof=1) / np.sqrt(gaps.shape[2])
    # Models that differ by the same amount everywhere have no spread; a floor keeps their order.
    largest: Floats = (mean / np.maximum(spread, 1e-9)).max(axis=1)
    return largest
