"""Stage report: the whole study as one HTML file that opens from the disk.

By hand::

    python -m stages.report --params params.yaml --data data/prepared --metrics metrics --report metrics/report.html
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from stages import chains, command, provenance
from stages.errors import InputError, naming
from stages.files import replacing
from stages.names import file_name
from stages.params import Params, load
from stages.params.data import OF_THE_USER
from stages.reporting import equal_size, page, prototypes, tables, verdicts

PACKAGES = ("torch", "torchvision", "zennit", "torch-pruning", "ptflops", "snakemake", "dvc")
CLASSES_SHOWN = 3


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.report", __doc__, data="prepared data", metrics="what the other stages wrote", report="page to write"
    )
    arguments = parser.parse_args()
    params = load(arguments.params)
    metrics = arguments.metrics
    table = _read(metrics / "pruning.csv")
    data = _described(arguments.data / "dataset.json")
    levels, pairs, areas = chains.compared(metrics, "comparison")
    few_levels, few_pairs, few_areas = chains.compared(metrics, "few_shot")
    majority = tables.majority(data["counts"]["test"])
    few_at_other_sizes = equal_size.few_at_other_sizes(few_levels, few_pairs, chains.FEW_SHOT_PHASES, majority)
    introduction = _introduction(params, data, _read(arguments.data / "index.csv"))
    title = f"Pruning {params.model.name} on {_data_set(params)} by what it finds relevant"
    sections = {
        "The result": _result(metrics, table, majority, levels, pairs),
        **_better_than_random(table, pairs, few_pairs),
        "Criteria at equal size": _equal_size(metrics, table, levels, pairs, areas, majority),
        "Each layer alone": _asked(
            metrics / "sensitivity/sensitivity.svg",
            "Accuracy (validation) without the lowest filters of one layer alone, by the part of them removed.",
        ),
        "With few images": [
            page.markdown("The same cuts where k images of each class are all there is, for scores and tuning."),
            page.figure(metrics / "few_shot/few_shot.svg", "Balanced accuracy where few images are all there is."),
            page.folded("At equal MACs", _page(metrics / "few_shot/page.md")),
            *_folded("At equal filters, parameters and measured time", few_at_other_sizes),
            *_folded("Over all sizes", equal_size.few_areas_markdown(few_areas, chains.FEW_SHOT_PHASES, majority)),
        ],
        "Classes, subgroups, single images": _safety(metrics, table, majority),
        "Does it still look where it looked?": _drift(metrics, params),
        "What it relies on: concepts": _concepts(metrics, params, data),
        "Prototypes": _prototypes(metrics, params, data),
        "What was removed": [
            page.figure(metrics / "plots/layers.svg", "Filters left in each layer after the last step."),
            page.folded("After every step", page.markdown(tables.steps_markdown(table, majority))),
            page.markdown(
                "What ended the chains (their steps, a size or time that was reached, or the guard, with its metric at "
                "the step that was undone):"
            ),
            page.markdown(tables.ends_markdown(_read(metrics / "chains.csv"))),
        ],
        "Time": [
            page.figure(metrics / "comparison/time.svg", "Balanced accuracy and MACs against the measured time left."),
            page.markdown("Size, and milliseconds a forward pass, at the last step, beside what MACs promise:"),
            page.markdown(tables.latency_markdown(table, _read(metrics / "latency.csv"))),
        ],
        "Deployment": _asked(
            metrics / "deployment/deployment.svg",
            "Speed of the last networks against that of the unpruned one, measured, and what MACs promise.",
        ),
        "Training": [
            page.figure(
                metrics / "plots/training.svg",
                "Loss and validation accuracy of the unpruned networks by epoch, and of all steps' fine-tuning.",
            ),
        ],
        "How to make it again": _again(arguments.params),
    }
    with replacing(arguments.report) as temporary:
        temporary.write_text(page.assemble(title, introduction, sections))


def _introduction(params: Params, data: dict, index: pd.DataFrame) -> str:
    seeds = f"{len(params.seeds)} seeds" if len(params.seeds) > 1 else "one seed"
    removed = {"physical": "removed physically", "mask": "masked (they stay, as zeros; sizes left are without them)"}
    text = (
        f"Filters of a trained {params.model.name} are scored by {', '.join(params.prune.criteria)}; the lowest are "
        f"{removed[params.prune.removal]}, the network is fine-tuned, {params.prune.steps} times. Which criterion "
        f"keeps most of what the network knew, at which size, and at whose cost? {len(data['classes'])} classes at "
        f"{data['image_size']} pixels: {tables.splits(index)} Metrics are those of the test split, but for the curves "
        f"of training. {seeds[0].upper()}{seeds[1:]}."
    )
    return page.markdown(text)


def _result(
    metrics: Path, table: pd.DataFrame, majority: pd.Series, levels: pd.DataFrame, pairs: pd.DataFrame
) -> list[str]:
    stability = _read(metrics / "comparison/stability.csv")
    said = verdicts.sentences(levels, pairs, stability, tables.criteria(table))
    return [
        page.markdown("\n".join(f"> {sentence}\n>" for sentence in said)),
        page.figure(metrics / "plots/balanced_accuracy.svg", "Balanced accuracy against what is left of the network."),
        page.markdown(tables.title(table)),
        page.markdown(tables.markdown(table, majority)),
    ]


def _better_than_random(table: pd.DataFrame, pairs: pd.DataFrame, few: pd.DataFrame) -> dict[str, list[str]]:
    """Return a section with what is better than random in each regime; none where there is nothing to compare."""
    if not {"random"} < set(tables.criteria(table)):
        return {}
    regimes = {("all training images", when): pairs[pairs["phase"] == phase] for phase, when in chains.PHASES.items()}
    for images, of_number in few.groupby("images_per_class"):
        regime = f"few: {images} of each class"
        words = chains.FEW_SHOT_PHASES.items()
        regimes |= {(regime, when): of_number[of_number["phase"] == phase] for phase, when in words}
    words = (
        "Criteria whose balanced accuracy is higher than that of random removal where this part of the MACs is "
        f"left (p < {equal_size.LEVEL} of a paired permutation test over test images, for these networks, "
        "corrected for all pairs and sizes of a line):"
    )
    better = verdicts.better_than_markdown(regimes, "random")
    return {"Better than removing filters at random?": [page.markdown(f"{words}\n\n{better}")]}


def _equal_size(
    metrics: Path,
    table: pd.DataFrame,
    levels: pd.DataFrame,
    pairs: pd.DataFrame,
    areas: pd.DataFrame,
    majority: pd.Series,
) -> list[str]:
    less = f"After the last step, less the unpruned network:\n\n{tables.difference_markdown(table, majority)}"
    blocks = [_page(metrics / "comparison/page.md"), page.markdown(less)]
    others = equal_size.at_other_sizes(levels, pairs, chains.PHASES, majority)
    blocks += _folded("At equal filters, parameters and measured time", others)
    blocks.append(page.markdown("\n\n".join(equal_size.areas_markdown(areas, chains.PHASES, majority))))
    return blocks


def _folded(title: str, texts: list[str]) -> list[str]:
    """Return tables as one folded block, or none where there are none."""
    return [page.folded(title, page.markdown("\n\n".join(texts)))] if texts else []


def _asked(figure: Path, caption: str) -> list[str]:
    """Return the page beside a figure, after the figure where it was asked for."""
    shown = [page.figure(figure, caption)] if figure.exists() else []
    return [*shown, _page(figure.with_name("page.md"))]


def _safety(metrics: Path, table: pd.DataFrame, majority: pd.Series) -> list[str]:
    return [
        page.markdown(f"Recall of each class at the last step:\n\n{tables.classes_markdown(table, majority)}"),
        _page(metrics / "safety/page.md"),
        page.markdown(f"{tables.CALIBRATION}\n\n{tables.calibration_markdown(table, majority)}"),
        page.figure(
            metrics / "safety/flips.png",
            "Test images that were right before and are wrong after the last step. Above each: its class, what most "
            "seeds call it now, and the probability of its class before and after (how many seeds lost it).",
        ),
        page.figure(metrics / "safety/confusion.svg", "Confusions, per cent of each true class (row)."),
        page.figure(metrics / "safety/reliability.svg", "Accuracy against confidence at the last step."),
    ]


def _drift(metrics: Path, params: Params) -> list[str]:
    caption = "{}: test images, and where relevance for the true class comes from (red) or speaks against it (blue)."
    pictures = {
        criterion: page.figure(metrics / f"drift/{criterion}/seed{params.seeds[0]}.png", caption.format(criterion))
        for criterion in params.prune.criteria
    }
    first, *others = pictures
    return [
        page.figure(metrics / "drift/drift.svg", "Similarity of heat maps to those of the unpruned network."),
        _page(metrics / "drift/page.md"),
        pictures[first],
        *(page.folded(f"Heat maps of {name}", pictures[name]) for name in others),
    ]


def _concepts(metrics: Path, params: Params, data: dict) -> list[str]:
    pictures = metrics / f"plots/concepts/seed{params.seeds[0]}"
    classes = {name: pictures / "heatmaps" / f"{file_name(name)}.png" for name in data["classes"]}
    shown = [(name, path) for name, path in classes.items() if path.exists()][:CLASSES_SHOWN]
    blocks = [
        _page(metrics / "concepts/page.md"),
        page.figure(metrics / "concepts/changes.svg", "Relevance of the concepts that the last step still has."),
        page.markdown(f"Seed {params.seeds[0]}; every class and layer is in `{pictures}`."),
    ]
    for number, (name, path) in enumerate(shown):
        caption = (
            f"{name}: an image, and for each layer where its five most relevant concepts get their relevance from."
        )
        figures = [page.figure(path, caption)]
        if (graph := pictures / "graphs" / f"{path.stem}.svg").exists():  # not where no layer is below
            words = "Sub-concepts of the last layer's first concept, layer by layer, as wide as their share."
            figures.append(page.figure(graph, f"{name}: {words}"))
        if (strategies := pictures / "strategies" / f"{path.stem}.png").exists():
            words = "images whose relevance goes through the same concepts, most typical first, and outliers."
            figures.append(page.figure(strategies, f"{name}: {words}"))
        blocks += figures if not number else [page.folded(f"Concepts of {name}", "".join(figures))]
    for path in sorted([*pictures.glob("chosen/*.png"), *pictures.glob("chosen/*.svg")]):
        blocks.append(page.folded(f"Chosen: {path.stem}", page.figure(path, f"{path.stem}.")))
    sheets = {sheet.stem: sheet for sheet in (pictures / "references").glob("*.png")}
    layers = [layer for layer in _read(metrics / "concepts/layers.csv")["layer"].unique() if layer in sheets]
    for layer in layers[-1:]:
        caption = (
            "images in which concepts are most relevant (RelMax) and most active (ActMax), cropped to what they see."
        )
        blocks.append(page.figure(sheets[layer], f"{layer}: {caption}"))
    return blocks


def _prototypes(metrics: Path, params: Params, data: dict) -> list[str]:
    pictures = metrics / f"plots/prototypes/seed{params.seeds[0]}"
    words = (
        "A ProtoPNet (Chen et al., 2019) on the backbone of each unpruned classifier: it compares patches of an image "
        "with prototypes, which are patches of training images. Those that do not stand for their class are removed, "
        "then filters of the backbone."
    )
    if not params.prototypes.per_class:
        return [_page(metrics / "prototypes/page.md")]
    blocks = [
        page.markdown(words),
        page.figure(metrics / "prototypes/prototypes.svg", "Balanced accuracy of ProtoPNets beside filter pruning."),
        _page(metrics / "prototypes/page.md"),
        page.markdown(f"Seed {params.seeds[0]}; every class is in `{pictures}`."),
    ]
    images = _described(pictures / "explanations.json")
    told = {each["class"]: each for each in reversed(images)}  # the first of each class
    for number, name in enumerate(data["classes"][:CLASSES_SHOWN]):
        stem = file_name(name)
        captions = {
            f"explanations/{stem}.1.png": f"{name}: the prototypes that speak most for what a test image is called.",
            f"prototypes/{stem}.png": f"{name}: its prototypes in their training images, and what there is like them.",
        }
        figures = [page.figure(pictures / file, caption) for file, caption in captions.items()]
        if name in told:
            words = f"What each of them adds to the logit of each class, for image {told[name]['image']}:"
            added = prototypes.contributions_markdown(told[name], data["classes"])
            figures.insert(1, page.markdown(f"{words}\n\n{added}"))
        blocks += figures if not number else [page.folded(f"Prototypes of {name}", "".join(figures))]
    return blocks


def _again(params_file: Path) -> list[str]:
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    changed = provenance.uncommitted("params.yaml")
    state = (provenance.commit() or "unknown (no git repository)") + (", with uncommitted changes" if changed else "")
    text = (
        f"Commit {state}; Python {platform.python_version()}, {packages}. `dvc repro` makes everything, this page "
        "last, from these parameters:"
    )
    return [page.markdown(text), page.folded("params.yaml", page.markdown(f"```\n{params_file.read_text()}\n```"))]


def _data_set(params: Params) -> str:
    return Path(params.data.source).name if params.data.name in OF_THE_USER else params.data.name


def _page(path: Path) -> str:
    with naming(path):
        return page.markdown(path.read_text())


def _read(path: Path) -> pd.DataFrame:
    with naming(path):
        return pd.read_csv(path)


def _described(path: Path) -> dict | list:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not what the stage before it writes: {error}") from None


if __name__ == "__main__":
    command.run(main)
