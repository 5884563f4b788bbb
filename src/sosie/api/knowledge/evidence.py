"""Evidence from the experiments of a workspace."""

from __future__ import annotations

from sosie.core.errors import NotFoundError, SosieError
from sosie.core.experiment_result import ExperimentResult
from sosie.knowledge.decision import Premise
from sosie.knowledge.evidence import Evidence, all_evidence
from sosie.workspace.experiments import find_experiment, list_experiments, load_result
from sosie.workspace.workspace import Workspace


def result_of(workspace: Workspace, experiment: str) -> ExperimentResult:
    """The result of an experiment, by its name or id. Raises `NotFoundError`."""
    name = find_experiment(workspace, experiment)
    found = load_result(workspace, name)
    if found is None:
        raise NotFoundError(f"experiment '{name}' has no result yet", f"sosie experiment resume {name}")
    return found


def premises_of(result: ExperimentResult) -> tuple[Premise, ...]:
    """What stands behind a result: itself, the files that it drew with and the judges' weights, as they were then."""
    models = (Premise("model", one.name, one.sha256) for one in result.models if one.sha256)
    judges = (Premise("judge", one.name, one.sha256) for one in result.judges if one.sha256)
    return (Premise("result", result.id, result.digest), *models, *judges)


def measured(workspace: Workspace) -> list[Evidence]:
    """All that the experiments of a workspace say; one whose result is damaged says nothing."""
    found: list[Evidence] = []
    for name in list_experiments(workspace):
        try:
            result = load_result(workspace, name)
        except SosieError:
            continue
        found += all_evidence(result) if result else ()
    return found
