"""The study's results as sentences: which criterion keeps a metric best at equal size, computed from its tables.

Every number is computed from `pruning.csv` or `few_shot.csv`, and every sentence says which study it is of: it may be
quoted alone. Between two steps of a chain metrics are interpolated linearly, as in `reporting.comparison`, and then
averaged over seeds; a chain that does not get that small is named, not extrapolated.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ruamel.yaml import YAML, YAMLError

from stages import chains, provenance
from stages.assistant.passages import Document, Sentence
from stages.params.data import OF_THE_USER
from stages.reporting import comparison, tables

TABLES = ("pruning.csv", "few_shot.csv")  # each a document; a study need not have the second
FEW = "images_per_class"
THIS = "this study"
COMMIT = re.compile(r"Made at commit ([0-9a-f]{40})\b")
SHARES = (0.8, 0.6, 0.5, 0.4)
SIZES = {"macs": "MACs", "params": "parameters", "filters": "filters"}
SPELT = {"macs": " (multiply-accumulates)"}
DATA_SETS = {"fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"} | {
    "ham10000": "HAM10000",
    "imagenet": "ImageNet",
}
HIGHER = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"} | {
    "auroc": "AUROC (area under the ROC curve)"
}
LOWER = {"ece": "ECE (expected calibration error)", "loss": "loss (cross-entropy)"}
EVERYWHERE = ("accuracy", "balanced_accuracy")  # at equal MACs, parameters and filters; the rest at equal MACs alone
RECALL = "recall_"
HAM10000 = {
    "nv": "melanocytic nevus",
    "mel": "melanoma",
    "bkl": "benign keratosis",
    "bcc": "basal cell carcinoma",
    "akiec": "actinic keratosis",
    "vasc": "vascular lesion",
    "df": "dermatofibroma",
}


class Level(NamedTuple):
    """What the criteria have at one size.

    `means` are means over seeds, a row a criterion in the study's order, a column a metric; `short` names the criteria
    of which not every seed gets that small, and how many do.
    """

    means: pd.DataFrame
    short: dict[str, int]


def studies(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the folder, name and commit of each study below a project: first the one that ran, then `docs/results`.

    The commit is `unknown` outside git, and where the page of a result does not name it; it ends in ` with changes`
    where code or params.yaml are not committed.
    """
    if (root / "metrics" / TABLES[0]).is_file():
        changes = " with changes" if provenance.uncommitted("params.yaml") else ""
        yield root / "metrics", THIS, (provenance.commit() or "unknown") + changes
    for table in sorted((root / "docs/results").glob(f"*/{TABLES[0]}")):
        name = table.parent.name
        page = root / "docs" / f"results-{name}.md"
        made = COMMIT.search(page.read_text(errors="replace")) if page.is_file() else None
        yield table.parent, name, made[1] if made else "unknown"


def digest(table: Path, commit: str) -> str:
    """Return the digest of a table's document: the same table of another commit is read again."""
    return hashlib.sha256(table.read_bytes() + commit.encode()).hexdigest()


def read(folder: Path, source: str, name: str, commit: str) -> Document:
    """Read one table of a study.

    Parameters
    ----------
    folder : Path
        Of the study; its params.yaml lies there or in the folder above (then it is that of the project).
    source : str
        Path of the table below the project; its last part is one of `TABLES`.
    name, commit : str
        As `studies` yields them.

    Raises
    ------
    ValueError
        The table cannot be read, is empty, lacks a column or the unpruned network of a seed, has a row twice or a value
        that is no number, or params.yaml cannot be read; the message is one line and names no file but params.yaml.
    """
    path = folder / Path(source).name
    few = path.name == TABLES[1]
    table = _checked(path, [FEW] if few else [])
    params = _params(folder)
    study = THIS if name == THIS else f"the study {name}"
    subject = study if params is None else f"{study} ({_get(params, 'model', 'name')} on {_data_set(params)})"
    texts = list(_few_shot(table, study, subject, params) if few else _pruning(table, study, subject, params))
    texts[0] = f"{texts[0].removesuffix('.')}; made at commit {commit}."
    place = f"commit {re.sub('[0-9a-f]{40}', lambda found: found[0][:7], commit)}"
    title = f"Results of {study}" + (" with few images" if few else "")
    sentences = tuple(Sentence(text, place) for text in texts)
    return Document(source, "results", title, digest(path, commit), "en", sentences)


def measured(table: pd.DataFrame, metrics: list[str]) -> dict[str, list[pd.DataFrame]]:
    """Return each criterion's chains after fine-tuning, one a seed.

    Parameters
    ----------
    table : DataFrame
        The rows of `pruning.csv`.

    Returns
    -------
    dict of DataFrames, steps + 1
        In the study's order; macs, params and filters as shares of the unpruned network of the same seed (without what
        is masked), and the metrics. The first row is the unpruned network.
    """
    left = chains.shares_left(table)
    both = left.join(table[table["phase"] != "pruned"].set_index(left.index.names)[metrics]).sort_index()
    found = {criterion: [] for criterion in table["criterion"].unique() if criterion != "baseline"}
    for (criterion, seed), steps in both.groupby(level=["criterion", "seed"]):
        if criterion != "baseline":
            found[criterion].append(pd.concat([both.loc[["baseline"], [seed], :], steps]))
    return found


def level(of_criteria: dict[str, list[pd.DataFrame]], axis: str, share: float, metrics: list[str], seeds: int) -> Level:
    """Return metrics where a share of an axis is left: macs, params or filters of `measured`, for so many seeds."""
    means, short = {}, {}
    for criterion, steps_of_seeds in of_criteria.items():
        found = []
        for steps in steps_of_seeds:
            weights = comparison.mixture(steps[axis].to_numpy(), share)
            if weights is not None:
                found.append(weights @ steps[metrics].to_numpy())
        if len(found) == seeds:
            means[criterion] = np.mean(found, axis=0)
        else:
            short[criterion] = len(found)
    return Level(pd.DataFrame.from_dict(means, orient="index", columns=metrics), short)


def _pruning(table: pd.DataFrame, study: str, subject: str, params: Any) -> Iterator[str]:
    yield _described(table, study, params, "")
    yield from _unpruned(table, subject)
    yield from _rankings(table, f"In {subject}, ", chains.PHASES["finetuned"])


def _few_shot(table: pd.DataFrame, study: str, subject: str, params: Any) -> Iterator[str]:
    numbers = sorted(table[FEW].unique())
    few = f", with few images (few-shot: {_and(numbers)} of each class and nothing else)"
    yield _described(table, study, params, few)
    for number in numbers:
        before = f"In {subject}, with {number} image{'s' if number > 1 else ''} of each class and nothing else, "
        yield from _rankings(
            table[table[FEW] == number].drop(columns=list(_recalls(table))), before, chains.FEW_SHOT_PHASES["finetuned"]
        )


def _described(table: pd.DataFrame, study: str, params: Any, more: str) -> str:
    """Say what the study is; what is not in the table is from params.yaml."""
    pruned = table[table["phase"] == "finetuned"]
    last = tables.at_the_end(pruned)["step"]
    steps = f"{last.min()} to {last.max()}" if last.min() < last.max() else f"{last.max()}"
    seeds = sorted(table["seed"].unique())
    drawn = f"seed{'s' if len(seeds) > 1 else ''} {_and(seeds)}"
    text = f" by {_and(pruned['criterion'].unique())}, {drawn}, in {steps} steps"
    if params is None:
        return f"{_capital(study)} prunes a network{text}{more}."
    network, pixels = _get(params, "model", "name"), _get(params, "data", "image_size")
    share, unit = _get(params, "prune", "per_step"), _get(params, "prune", "unit")
    epochs = _get(params, "prune", "finetune", "epochs")
    tuned = "" if more else f", with {epochs} epoch{'' if epochs == 1 else 's'} of fine-tuning after each"
    of = f" of {share * 100:.3g} % of the {SIZES.get(unit, unit)} each" if isinstance(share, float) else ""
    data = f"{_data_set(params)} (images of {pixels} pixels)"
    return f"{_capital(study)} prunes the network {network} on the data set {data}{text}{of}{tuned}{more}."


def _unpruned(table: pd.DataFrame, subject: str) -> Iterator[str]:
    means, seeds = tables.baseline(table).dropna(), table["seed"].nunique()
    metrics = [f"{name} {_value(means[metric])}" for metric, name in (HIGHER | LOWER).items() if metric in means]
    sizes = [f"{means[axis]:,.0f} {SIZES[axis]}{SPELT.get(axis, '')}" for axis in SIZES]
    found = f"In {subject}, the unpruned network has "
    yield f"{found}{', '.join(metrics)} ({_seeds(seeds)}); {', '.join(sizes)}."
    if recalls := _recalls(table):
        each = [f"{_value(means[metric])} of {name}" for metric, name in recalls.items() if metric in means]
        yield f"{found}recall {', '.join(each)} ({_seeds(seeds)})."


def _rankings(table: pd.DataFrame, before: str, phase: str) -> Iterator[str]:
    """Yield a sentence for each axis, share and metric; one for all metrics where no criterion gets that small."""
    names = HIGHER | LOWER | {metric: f"recall of {name}" for metric, name in _recalls(table).items()}
    known = [name for name in names if table.loc[table["phase"] != "pruned", name].notna().all()]
    of_criteria, unpruned, seeds = measured(table, known), tables.baseline(table), table["seed"].nunique()
    for axis in SIZES:
        for share in SHARES:
            found = level(of_criteria, axis, share, known, seeds)
            if found.means.empty:
                yield f"{before}no criterion gets down to {_size(axis, share)} with every seed."
                continue
            missed = _missed(found.short, seeds)
            for metric in known if axis == "macs" else [name for name in known if name in EVERYWHERE]:
                ranked = _ranked(found.means[metric], metric in LOWER, _seeds(seeds))
                whole = f"unpruned {_value(unpruned[metric])}"
                yield f"{before}at {_size(axis, share)}, {phase}, the {names[metric]} is {ranked}; {whole}{missed}."


def _ranked(means: pd.Series, lower: bool, seeds: str) -> str:
    """Return the criteria from the best, those with the same three digits together."""
    alike = {}
    for criterion, mean in means.items():
        alike.setdefault(_value(mean), []).append(criterion)
    order = sorted(alike, key=float, reverse=not lower)
    best = f"{'lowest with' if lower else 'best kept by'} {_and(alike[order[0]])}: {order[0]} ({seeds})"
    others = [f"{_and(alike[value])} {value}" for value in order[1:]]
    return f"{best}, then {', '.join(others)}" if others else best


def _missed(short: dict[str, int], seeds: int) -> str:
    names = [f"{name} (only {count} of {seeds} seeds)" if count else name for name, count in short.items()]
    return f"; {_and(names)} {'do' if len(names) > 1 else 'does'} not get that small" if names else ""


def _size(axis: str, share: float) -> str:
    name = SIZES[axis]
    if share == 0.5:
        return f"half the {name} (50 %{' of the multiply-accumulates' if axis == 'macs' else ''})"
    return f"{share * 100:.0f} % of the {name}{SPELT.get(axis, '')}"


def _recalls(table: pd.DataFrame) -> dict[str, str]:
    """Return the columns of recalls with the names of their classes, in words where all are HAM10000's."""
    codes = [column.removeprefix(RECALL) for column in table if column.startswith(RECALL)]
    known = HAM10000 if set(codes) <= set(HAM10000) else {}
    return {RECALL + code: f"{known[code]} ({code})" if code in known else code for code in codes}


def _checked(path: Path, more: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"no table: {str(error).strip().splitlines()[0]}") from None
    keys = [*more, "criterion", "seed", "step", "phase"]
    numbers = [*more, "seed", "step", *SIZES, *HIGHER, *LOWER]
    if missing := [name for name in dict.fromkeys([*keys, *numbers]) if name not in table]:
        raise ValueError(f"no column {_and(missing)}; needed are {', '.join(dict.fromkeys([*keys, *numbers]))}")
    numbers += [name for name in table if name.startswith((RECALL, tables.EFFECTIVE))]
    for name in numbers:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ValueError(f"column {name} has a value that is no number")
    if table[[*keys, *SIZES]].isna().any(axis=None):
        column = table[[*keys, *SIZES]].isna().any().idxmax()
        raise ValueError(f"column {column} has an empty value")
    if table.duplicated(keys).any():
        row = table.loc[table.duplicated(keys).idxmax(), keys]
        raise ValueError(f"two rows of {', '.join(f'{key} {value}' for key, value in row.items())}")
    if not (table["phase"] == "finetuned").any():
        raise ValueError("no row of the phase finetuned")
    groups = table.groupby(more) if more else [((), table)]
    for _, group in groups:
        unpruned = group.loc[(group["phase"] == "baseline") & (group["criterion"] == "baseline"), "seed"]
        if missing := sorted(set(group["seed"]) - set(unpruned)):
            raise ValueError(f"no unpruned network (criterion and phase baseline) of seed {_and(missing)}")
    return table


def _params(folder: Path) -> Any:
    """Return what params.yaml says, also one of an earlier schema; None: there is none."""
    paths = [path for path in (folder / "params.yaml", folder.parent / "params.yaml") if path.is_file()]
    if not paths:
        return None
    try:
        return YAML(typ="safe").load(paths[0].read_text())
    except (OSError, ValueError, YAMLError) as error:
        raise ValueError(f"its params.yaml cannot be read: {str(error).splitlines()[0]}") from None


def _get(params: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(params, dict) or key not in params:
            raise ValueError(f"its params.yaml has no {'.'.join(keys)}")
        params = params[key]
    return params


def _data_set(params: Any) -> str:
    name = _get(params, "data", "name")
    name = Path(_get(params, "data", "source")).name if name in OF_THE_USER else name
    return DATA_SETS.get(name, name)


def _value(number: float) -> str:
    return f"{number + 1e-9:.3f}"  # 0.6845 is 0.685, also where it is stored as a little less


def _seeds(number: int) -> str:
    return f"mean of {number} seeds" if number > 1 else "one seed"


def _and(words: Sequence) -> str:
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
