"""Tune: a search over training parameters; hopeless trials are stopped, workers join, a broken-off study goes on."""

from __future__ import annotations

from flows.dataset.layout import read_dataset
from flows.early import check_early
from flows.errors import Preempted
from flows.stage import StageRun, main, stage
from flows.stopping import stopped_by_sigterm
from flows.training.search.search import TuneReport, search
from flows.training.search.study import open_study
from flows.tuning.study import facts_of, find_start_weights, find_storage, require_sense
from flows.tuning.trial import Trials, study_run


@stage(gate="stop", tracked=False)
def tune(run: StageRun) -> TuneReport:
    """Each trial is a training of its own with an MLflow run nested in that of the study.

    Started again, or in another terminal or on another machine with the same storage, it joins the same study.
    """
    check_early("tune", run.params, run.project)
    require_sense(run.project, run.params)
    dataset = run.step(read_dataset)(run.project.data)
    start = run.step(find_start_weights)(run.project, run.params, run.registry())
    facts = facts_of(run.params, dataset, run.provenance.data_md5, start)
    study = run.step(open_study)(find_storage(run.project), run.params.tune, run.params.train, facts)
    page = run.project.reports / "tune.html"
    with stopped_by_sigterm(), study_run(run, study) as log:
        trials = Trials(run, dataset, study, start.checkpoint, log.run_id, page)
        try:
            report = run.step(search)(trials.train, study, run.progress, trials.publish)
        except (KeyboardInterrupt, Preempted):
            run.shown.milestone(f"{study.standing()[0]} of {run.params.tune.trials} trials are done and kept")
            raise
        trials.publish(report)
        log.artifact(page)
    run.table([{"trial": row.number, "state": row.state, **row.values, **row.params} for row in report.trials])
    return report


if __name__ == "__main__":
    main(tune)
