"""All exported studies side by side: what is left where half of the MACs is."""

import pandas as pd

from stages.params.data import OF_THE_USER
from stages.reporting import equal_size, tables
from stages.reporting.comparison import at_macs
from stages.reporting.verdicts import SHARE

IMAGES = 10  # of each class, where few are all there is
METRIC = "balanced_accuracy"
TUNED = "After fine-tuning on all images that train"
CUT = "Right after each cut"
FEW = f"With {IMAGES} images of each class and no others"
ONE_CLASS = "always one class"
LAST = "better than random"
SUMS = {"sum": "signed", "abs-sample": "absolute", "abs-pixel": "absolute, by pixel"}


def lines(study: str, params: dict, pruning: pd.DataFrame, pairs: pd.DataFrame, few_shot: pd.DataFrame | None) -> dict:
    """Return what an exported study says, in words: by title of its table, a line or none.

    Parameters
    ----------
    study : str
        What it is called.
    params : dict
        Its parameters, perhaps of an older schema; only `data`, `model`, `seeds`, the reduction of LRP and
        the updates of `few_shot` are read.
    pruning, pairs : DataFrame
        metrics/pruning.csv; rows of `reporting.comparison.pairs` with the column phase.
    few_shot : DataFrame, optional
        metrics/few_shot.csv.
    """
    data, about = params["data"], {"study": study}
    asked = {
        "data": data["source"] if data["name"] in OF_THE_USER else data["name"],
        "network": params["model"]["name"],
        "pixels": str(data["image_size"]),
        "seeds": str(len(params["seeds"])),
        "sums of lrp": SUMS.get(params["prune"]["scores"].get("reduction", {}).get("lrp"), "–"),
    }
    to_random = equal_size.differences_to(
        tables.of(pairs, axis="macs", metric=METRIC, phase="finetuned", share=SHARE), "random"
    )
    better = {LAST: equal_size.better(to_random).get(f"{SHARE:.0%}", "–")}
    found = {TUNED: about | asked | _sizes(pruning, "finetuned") | better, CUT: about | _sizes(pruning, "pruned")}
    if few_shot is not None and len(few := few_shot[few_shot["images_per_class"] == IMAGES]):
        found[FEW] = about | {"updates": str(params["few_shot"]["updates"])} | _sizes(few, "finetuned")
    return found


def _sizes(rows: pd.DataFrame, phase: str) -> dict[str, str]:
    """Return balanced accuracy, mean over seeds: unpruned, of always naming one class, and by criterion.

    That of criteria is where half of the MACs is left; behind it stands the difference to the unpruned network.
    """
    rows = tables.effective(rows)
    whole = tables.baseline(rows)
    reached = pd.DataFrame(
        [at_macs(of_seed, SHARE * whole["macs"], phase, METRIC) for _, of_seed in rows.groupby("seed")]
    )
    means = reached.mean(skipna=False).round(6)
    texts = means.map("{:.3f}".format) + (means - whole[METRIC]).map(", {:+.3f}".format)
    always = 1 / sum(name.startswith("recall_") for name in rows)
    both = {"unpruned": f"{round(whole[METRIC], 6):.3f}", ONE_CLASS: f"{always:.3f}"}
    return both | texts.where(means.notna(), "–").to_dict()


def page(studies: list[dict]) -> str:
    """Return the lines of all studies as tables of Markdown, a paragraph before each."""
    titles = dict.fromkeys(title for study in studies for title in study)
    parts = []
    for title in titles:
        table = pd.DataFrame([study[title] for study in studies if title in study]).fillna("–")
        order = sorted(table, key=lambda name: name == LAST)  # criteria that only later studies have come before it
        parts += [f"{title}:", tables.as_markdown(table[order])]
    return "\n\n".join(parts)
