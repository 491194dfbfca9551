"""Stage compare: all rows in one table, its summary, and the plots.

By hand::

    python -m stages.compare --params params.yaml --rows baseline.csv lrp.csv … --plans step1.plan.json … \
        --histories step1.history.csv … --pruning metrics/pruning.csv --headline metrics/headline.json \
        --summary metrics/summary.json --baseline metrics/baseline.json --layers metrics/layers.csv \
        --history metrics/history.csv --chains metrics/chains.csv --plots metrics/plots
"""

import json
from pathlib import Path

import pandas as pd

from stages import command
from stages.errors import naming
from stages.files import replacing, write_json
from stages.names import identify
from stages.params import load
from stages.reporting import plots, tables


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.compare",
        __doc__,
        pruning="table of all metrics, to write",
        headline="balanced accuracy and MACs left at the last step, to write",
        summary="metrics of the last step by criterion, to write",
        baseline="metrics of the unpruned network, to write",
        layers="table of filters a layer, to write",
        history="table of all epochs, to write",
        chains="table of what ended each chain, to write",
        plots="folder of plots, to write",
    )
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="tables of `stages.evaluate`")
    parser.add_argument("--plans", type=Path, nargs="+", required=True, help="plans of `stages.prune`")
    parser.add_argument("--histories", type=Path, nargs="+", required=True, help="of all trainings")
    arguments = parser.parse_args()
    criteria = load(arguments.params).prune.criteria
    with naming("rows, plans and histories"):
        table = tables.pruning_table(pd.concat(map(pd.read_csv, arguments.rows), ignore_index=True), criteria)
        measured = set(table[["criterion", "seed", "step"]].itertuples(index=False, name=None))
        layers, history = (
            pd.concat([read(path) for path in paths if identify(path)[:3] in measured], ignore_index=True)
            for read, paths in ((_layers, arguments.plans), (_history, arguments.histories))
        )
        ends = {identify(path)[:2]: path for path in sorted(arguments.plans, key=lambda path: identify(path).step)}
        chains = pd.DataFrame(map(_end, ends.values()))
    written = {"pruning": table, "layers": layers, "history": history, "chains": chains}
    for name, content in written.items():
        with replacing(getattr(arguments, name)) as temporary:
            content.to_csv(temporary, index=False)
    unpruned, last = tables.baseline(table), tables.last_step(table)
    write_json(arguments.headline, {name: _numbers(row) for name, row in tables.headline(unpruned, last).iterrows()})
    write_json(arguments.baseline, _numbers(unpruned))
    write_json(arguments.summary, {criterion: _numbers(row) for criterion, row in last.iterrows()})
    for metric in ("accuracy", "balanced_accuracy"):
        plots.save(plots.metric_curves(table, metric), arguments.plots / f"{metric}.svg")
    plots.save(plots.layer_shares(layers), arguments.plots / "layers.svg")
    plots.save(plots.training_curves(history), arguments.plots / "training.svg")
    print(f"\n{tables.in_words(table)}\n")


def _layers(plan: Path) -> pd.DataFrame:
    content = json.loads(plan.read_text())
    rows = [{"layer": layer} | widths for layer, widths in content["layers"].items()]
    return _identified(pd.DataFrame(rows), plan)


def _end(plan: Path) -> dict:
    """Return what ended a chain, from its last plan, and what was measured of the unpruned network and at the end.

    Without a limit the steps ended it. Sizes and times are shares; at a guard the metric is that of the undone step.
    """
    content = json.loads(plan.read_text())
    ended_by = content["stopped_by"] or "steps"
    if ended_by == "guard":
        measure, unpruned, now = (content["guard"][name] for name in ("metric", "unpruned", "now"))
    elif ended_by == "latency":
        measure, unpruned, now = "latency", 1.0, content["until"]["now"]
    else:
        measure = content["unit"] if ended_by == "steps" else ended_by
        unpruned, now = 1.0, content["after"][measure] / content["original"][measure]
    found = {"ended_by": ended_by, "measure": measure, "unpruned": unpruned, "now": now}
    return {name: content[name] for name in ("criterion", "seed")} | found


def _history(path: Path) -> pd.DataFrame:
    return _identified(pd.read_csv(path), path)


def _identified(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    identity = identify(path)
    for position, name in enumerate(("criterion", "seed", "step")):
        table.insert(position, name, getattr(identity, name))
    return table


def _numbers(row: pd.Series) -> dict[str, float | int]:
    whole = {f"{before}{size}" for before in ("", tables.EFFECTIVE) for size in tables.SIZES}
    return {name: int(value) if name in whole else round(float(value), 6) for name, value in row.items()}


if __name__ == "__main__":
    command.run(main)
