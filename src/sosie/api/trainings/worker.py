"""The training on its machine: `python -m sosie.api.trainings.worker FOLDER`, detached; nobody needs to listen.

FOLDER holds `order.json`, a workspace with the characters, and what the run makes: its state, the journal, the file.
A run that was killed goes on from its state when it is begun again.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from sosie.api.trainings.journal import Journal
from sosie.api.trainings.work import performed, work_of
from sosie.core import Recipe
from sosie.core.errors import EngineError, SosieError
from sosie.core.schema import from_table
from sosie.loop.training_job import TrainOrder
from sosie.machines.load import calm_threads
from sosie.workspace.characters import load_character
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

ORDER = "order.json"


def order_table(order: TrainOrder, recipe: Any) -> dict[str, Any]:
    """What is sent of an order, beside the files: no price, nothing of this machine."""
    return {
        "characters": list(order.names),
        "recipe": recipe,
        "device": order.device,
        "continue_from": order.continue_from,
        "regularisation": order.regularisation is not None,
    }


def read_order(workspace: Workspace, table: dict[str, Any]) -> TrainOrder:
    """The order of that table, for the workspace there."""
    return TrainOrder(
        tuple(load_character(workspace, str(name)) for name in table["characters"]),
        from_table(Recipe, table["recipe"], "order"),
        continue_from=str(table["continue_from"]),
        regularisation=workspace.root / "regularisation" if table["regularisation"] else None,
        device=str(table["device"]),
        add=False,
    )


def main() -> None:
    """The run of the folder of the command line; exit code 0 where it came to its end, whatever that was."""
    calm_threads()
    folder = Path(sys.argv[1])
    with closing(Journal(folder / "journal")) as journal, Session(open_workspace(folder)) as session:
        try:
            order = read_order(session.workspace, json.loads((folder / ORDER).read_text(encoding="utf-8")))
            work = work_of(session, order)
            for event in performed(session, work, (work.job.folder / "state.safetensors").is_file()):
                journal.write(event)
        except SosieError as error:
            journal.fail(error)
        except Exception as error:
            journal.fail(EngineError(f"the training failed: {type(error).__name__}: {error}"))
            raise


if __name__ == "__main__":
    main()
