"""Optuna's samplers and pruners by the names of params.yaml."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from flows.params_tune import TuneParams

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

_REDUCTION = 3  # of halving and hyperband: the best third goes on


def make_sampler(params: TuneParams, seed: int, place: int) -> BaseSampler:
    """The sampler that proposes the values of the trial at `place`, from 0, counted without repeated attempts.

    Each trial draws from a seed of its own: many workers do not propose alike, and the same study proposes the same
    when it goes on after a break as it would have without, except that nsgaii and the hyperband pruner count repeated
    attempts. TPE is the multivariate one (Falkner et al. 2018; by groups
    where the space has conditions), for several objectives Ozaki et al. 2022; nsgaii is Deb et al. 2002.
    """
    import optuna

    own_seed = (seed * 1_000_003 + place) % 2**32
    startup = max(2, min(10, params.trials // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match params.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=own_seed)
            case "tpe":
                has_conditions = any(searched.when for searched in params.space.values())
                return optuna.samplers.TPESampler(
                    seed=own_seed, n_startup_trials=startup, multivariate=True, group=has_conditions
                )
            case "gp":
                return optuna.samplers.GPSampler(
                    seed=own_seed, n_startup_trials=startup, warn_independent_sampling=False
                )
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(seed=own_seed, population_size=max(4, min(50, params.trials // 5)))
            case "qmc":
                return optuna.samplers.QMCSampler(  # one scrambled sequence for all, counted in the storage
                    seed=seed,
                    scramble=True,
                    independent_sampler=optuna.samplers.RandomSampler(seed=own_seed),
                    warn_independent_sampling=False,
                    warn_asynchronous_seeding=False,
                )


def make_pruner(params: TuneParams) -> BasePruner:
    """What says after an epoch whether the trial is to stop; before `prune_from` it is not asked."""
    from optuna import pruners

    match params.pruner:
        case "median" | "patient":
            median = pruners.MedianPruner(
                n_startup_trials=max(1, min(5, params.trials // 4)), n_warmup_steps=params.prune_from
            )
            return median if params.pruner == "median" else pruners.PatientPruner(median, patience=1)
        case "halving":
            return pruners.SuccessiveHalvingPruner(min_resource=params.prune_from, reduction_factor=_REDUCTION)
        case "hyperband":
            return pruners.HyperbandPruner(
                min_resource=min(params.prune_from, params.epochs),
                max_resource=params.epochs,
                reduction_factor=_REDUCTION,
            )
        case "none":
            return pruners.NopPruner()
