"""Commands for people, beside the graph.

By hand::

    python -m stages.study check            # params.yaml against its schema; files that a crash left without their end
    python -m stages.study status           # which stages are done, and the jobs that would run for the others
    python -m stages.study table            # the table of the last study, and where its plots are
    python -m stages.study size             # what its networks take on the disk, by step
    python -m stages.study free             # deletes networks from the work folder that models.keep does not keep
    python -m stages.study compare A B …    # criteria in the studies of several commits or experiments, at equal MACs
    python -m stages.study export NAME      # its small results to docs/results/NAME, a page to docs/results-NAME.md
    python -m stages.study export NAME --of toy       # the same for toy and curves; for prototypes alone
    python -m stages.study overview         # what all exported studies say, between its marks in README.md
"""

import io
import json
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from stages import command, disk, provenance, published, run
from stages.errors import InputError, naming
from stages.files import replacing
from stages.names import file_name
from stages.params import Params, load
from stages.params.training import Weights

TABLE = Path("metrics/pruning.csv")
KEYS = ["criterion", "seed", "step", "phase"]
WORKSPACE = "workspace"  # as `dvc exp show` calls it
KEEP = "`git add params.yaml dvc.lock metrics && git commit`"
MODELS = Path("models/pruned")
PROTOTYPES = "prototypes"
PICTURED_CLASSES = 2  # of prototypes, in what is exported
RESULTS = Path("docs/results")
README = Path("README.md")
OVERVIEW = "<!-- overview -->\n", "<!-- end of overview -->\n"


def main() -> None:
    """Run one of the commands."""
    parser = command.Parser(prog="python -m stages.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=command.Parser)
    for function in (check, status, table, size, free, overview):
        commands.add_parser(function.__name__).set_defaults(function=lambda _, function=function: function())
    comparer = commands.add_parser("compare")
    comparer.add_argument("revisions", nargs="+", help=f"commits, experiments of DVC, or {WORKSPACE}")
    comparer.add_argument("--metric", default="balanced_accuracy", help=f"a column of {TABLE}")
    comparer.add_argument("--phase", default="finetuned", choices=["pruned", "finetuned"])
    comparer.set_defaults(function=lambda given: compare(given.revisions, given.metric, given.phase))
    exporter = commands.add_parser("export")
    exporter.add_argument("name")
    exporter.add_argument(
        "--of", choices=[*run.BESIDE, PROTOTYPES], help="a target beside the study, or the prototypes alone"
    )
    exporter.set_defaults(function=lambda given: export(given.name, given.of))
    arguments = parser.parse_args()
    arguments.function(arguments)


def check() -> None:
    """Refuse a wrong params.yaml, or one whose data are not there, with one line; delete files that are not whole."""
    source = Path(load(run.PARAMS).data.source)
    if not source.exists():
        raise InputError(
            f"{run.PARAMS}: data.source: {source}: no such file or folder; docs/data.md says where data sets are had"
        )
    outputs = [output for stage in run.stages().values() for output in run.outputs(stage)]
    with run.sole_owner("check"):
        if count := run.delete_broken(run.work_folder(), *outputs):
            print(f"{count} files were not whole: `dvc repro` makes them again")


def status() -> None:
    """Print, for each stage of dvc.yaml, whether it is done; for the first that is not, the jobs that would run."""
    params = load(run.PARAMS)
    answer = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True)
    if answer.returncode:
        raise InputError(f"dvc status: {answer.stderr.strip()}")
    changed = json.loads(answer.stdout)
    first = True
    for name in run.stages():
        if name not in changed:
            print(f"{name}: done")
        elif first:
            first = False
            print(f"{name}: to run")
            stage = run.read_stage(name)
            frozen = run.freeze_params(run.RUN / name)  # no stage is running: `dvc status` would have said so
            dry = ["--dry-run", "--quiet", "rules", "reason", "host"]
            for job, count in _planned(run.stage_command(name, stage, run.chain_keys(stage, params), frozen, dry)):
                print(f"    {job} {count}")
        else:
            print(f"{name}: to run after it")


def _planned(dry_run: list[str]) -> list[tuple[str, int]]:
    """Return the rules that a dry run of Snakemake names and how often, without targets and publishing."""
    answer = subprocess.run(dry_run, capture_output=True, text=True)
    if answer.returncode:
        raise InputError(f"snakemake --dry-run: {(answer.stdout + answer.stderr).strip().splitlines()[-1]}")
    rows = [line.split() for line in answer.stdout.partition("Job stats:")[2].partition("\n\n")[0].splitlines()]
    jobs = [(row[0], int(row[1])) for row in rows if len(row) == 2 and row[1].isdigit()]
    return [(name, count) for name, count in jobs if not name.startswith(("stage_", "publish_", "total"))]


def table() -> None:
    """Print the table of metrics/pruning.csv."""
    from stages.reporting import tables

    print(f"\n{tables.in_words(_rows())}\n")
    print(f"Every number: {TABLE}   Plots: {', '.join(map(str, sorted(Path('metrics/plots').glob('*.svg'))))}")
    print("All of it as one page: metrics/report.html")
    print("To see them beside those of another commit: .venv/bin/dvc plots diff")


def size() -> None:
    """Print what the networks of the study will take, and the bytes of what is there, by step."""
    print(disk.in_words(load(run.PARAMS), run.PREPARED))
    for step, count in disk.by_step(MODELS.parent).items():
        print(f"{f'step {step}' if step else 'baselines'}: {count / 1e6:,.1f} MB")


def free() -> None:
    """Delete networks of steps that are not to be kept from the work folder; they are made again where needed."""
    keep = load(run.PARAMS).models.keep
    with run.sole_owner("free"):
        print(f"{disk.free(run.work_folder() / 'prune', keep) / 1e6:,.1f} MB are free again (models.keep: {keep})")


def compare(names: list[str], metric: str, phase: str) -> None:
    """Print what each criterion is worth at equal MACs at several revisions, less the first.

    Raises
    ------
    InputError
        A revision is not known, or has no study; the studies have no such metric, or no criterion and seed in common.
    """
    from stages import chains
    from stages.reporting import revisions

    studies = {name: _rows_at(name) for name in names}
    if len(studies) < 2:
        raise InputError(f"{names[0]}: is one study; name two or more different ones")
    for name, rows in studies.items():
        if metric not in (known := [column for column in rows if column not in KEYS]):
            raise InputError(f"--metric {metric}: not in {TABLE} of {name}, which has {', '.join(known)}")
    with naming(", ".join(studies)):
        levels = revisions.at_equal_macs(studies, metric, phase, [1, *load(run.PARAMS).evaluate.comparison.shares])
    print(
        f"{metric} {chains.PHASES[phase]}, mean over seeds, where this part of the MACs is left; "
        f"less {names[0]}, with its 95 % interval over seeds:\n"
    )
    print(revisions.markdown(levels))


def overview() -> None:
    """Write what all exported studies say at half of the MACs between the marks of README.md.

    Raises
    ------
    InputError
        README.md has no marks, or no study was exported.
    """
    import pandas as pd
    from ruamel.yaml import YAML

    from stages.reporting import overview as studies

    before, start, rest = README.read_text().partition(OVERVIEW[0])
    _, end, after = rest.partition(OVERVIEW[1])
    if not end:
        raise InputError(f"{README}: has no lines {OVERVIEW[0].strip()} and {OVERVIEW[1].strip()} to write between")
    found = []
    for folder in sorted(pairs.parent for pairs in RESULTS.glob("*/pairs.csv")):
        with naming(folder):
            params = YAML(typ="safe").load((folder / "params.yaml").read_text())
            pruning, compared = (pd.read_csv(folder / f"{name}.csv") for name in ("pruning", "pairs"))
            few_shot = pd.read_csv(path) if (path := folder / "few_shot.csv").exists() else None
        link = f"[{folder.name}]({RESULTS}-{folder.name}.md)"
        found.append(studies.lines(link, params, pruning, compared, few_shot))
    if not found:
        raise InputError(f"{RESULTS}: has no study; `make results-NAME` exports one")
    with replacing(README) as temporary:
        temporary.write_text(f"{before}{start}\n{studies.page(found)}\n\n{end}{after}")
    print(f"{README}: {len(found)} studies")


def export(name: str, part: str | None) -> None:
    """Export the study, a target beside it, or its prototypes."""
    if part in run.BESIDE:
        export_target(name, part)
    elif part == PROTOTYPES:
        export_prototypes(name)
    else:
        export_study(name)


def export_study(name: str) -> None:
    """Copy the study's small results and parameters to docs/results/NAME; docs/results-NAME.md shows what made them.

    Raises
    ------
    InputError
        There are no results, they are not those of the parameters, or the code is not committed.
    """
    import pandas as pd

    from stages import chains
    from stages.reporting import equal_size, tables, verdicts

    rows = _rows()
    _refuse_outdated()
    metrics, params = Path("metrics"), load(run.PARAMS)
    levels, pairs, areas = chains.compared(metrics, "comparison")
    few_levels, few_pairs, few_areas = chains.compared(metrics, "few_shot")
    stability = pd.read_csv(metrics / "comparison/stability.csv")
    small = (
        "baseline.json",
        "summary.json",
        "*.csv",
        "plots/*.*",
        "comparison/*.csv",
        "comparison/time.*",
        "safety/classes.csv",
        "safety/subgroups.csv",
        "safety/confusion.*",
        "safety/reliability.*",
        "sensitivity/sensitivity.*",
        "sensitivity/parts.csv",
        "deployment/deployment.*",
        "few_shot/few_shot.*",
        "drift/drift.*",
        "concepts/changes.*",
        "prototypes/prototypes.*",
    )
    files = {path.name: path for kind in small for path in metrics.glob(kind)}
    for part in ("few_shot", "few_shot_latency"):  # whose tables are called as those of the comparison
        files |= {f"{part}_{path.name}": path for path in metrics.glob(f"{part}/*.csv")}
    majority = tables.majority(json.loads(run.PREPARED.read_text())["counts"]["test"])
    page = [
        f"{tables.splits(pd.read_csv(run.PREPARED.with_name('index.csv')))} {_start(params)}",
        *verdicts.sentences(levels, pairs, stability, tables.criteria(rows)),
        tables.title(rows),
        tables.markdown(rows, majority),
        "Less the unpruned network:",
        tables.difference_markdown(rows, majority),
        *filter(None, [published.beside(rows, published.of(params.data.source))]),
        "Recall of each class:",
        tables.classes_markdown(rows, majority),
        (metrics / "safety/page.md").read_text().strip(),
        tables.CALIBRATION,
        tables.calibration_markdown(rows, majority),
        "![confusions at the last step](confusion.svg)",
        "![accuracy against confidence at the last step](reliability.svg)",
        "Size, and milliseconds a forward pass:",
        tables.latency_markdown(rows, pd.read_csv(metrics / "latency.csv")),
        "![balanced accuracy and MACs against measured time](time.svg)",
        (metrics / "deployment/page.md").read_text().strip(),
        *["![speed in PyTorch and onnxruntime](deployment.svg)"] * (metrics / "deployment/deployment.svg").exists(),
        (metrics / "comparison/page.md").read_text().strip(),
        *equal_size.at_other_sizes(levels, pairs, chains.PHASES, majority),
        *equal_size.areas_markdown(areas, chains.PHASES, majority),
        "## With few images",
        "The same cuts where these images of each class are all there is, for scores, batch norms and tuning.",
        "![balanced accuracy with few images](few_shot.svg)",
        (metrics / "few_shot/page.md").read_text().strip(),
        *equal_size.few_at_other_sizes(few_levels, few_pairs, chains.FEW_SHOT_PHASES, majority),
        *equal_size.few_areas_markdown(few_areas, chains.FEW_SHOT_PHASES, majority),
        "## Heat maps before and after",
        (metrics / "drift/page.md").read_text().strip(),
        "![similarity of heat maps after each step](drift.svg)",
        "## Concepts",
        (metrics / "concepts/page.md").read_text().strip(),
        "![relevance of the concepts that are left](changes.svg)",
        "## Prototypes",
        (metrics / "prototypes/page.md").read_text().strip(),
        *["![balanced accuracy of ProtoPNets](prototypes.svg)"] * (metrics / "prototypes/prototypes.svg").exists(),
        "## Each layer alone",
        (metrics / "sensitivity/page.md").read_text().strip(),
        *["![accuracy without parts of one layer](sensitivity.svg)"]
        * (metrics / "sensitivity/sensitivity.svg").exists(),
        "## Every step",
        tables.steps_markdown(rows, majority),
        "What ended the chains:",
        tables.ends_markdown(pd.read_csv(metrics / "chains.csv")),
        "![accuracy](accuracy.svg)",
        "![filters left in each layer](layers.svg)",
    ]
    _export(name, "dvc repro", files, page)


def _start(params: Params) -> str:
    """Return what the unpruned networks are, as a sentence."""
    if params.train.checkpoint:
        return f"The unpruned network is {params.train.checkpoint.path}."
    weights = params.model.pretrained
    known = {None: "random weights", "imagenet": "torchvision's weights of ImageNet"}
    return f"The unpruned networks start from {weights.path if isinstance(weights, Weights) else known[weights]}."


def export_prototypes(name: str) -> None:
    """Do as `export_study` for the ProtoPNets of the study alone, with pictures of some classes.

    All studies whose ProtoPNets were exported share a page, docs/results-prototypes.md.
    """
    import pandas as pd

    from stages.reporting import tables

    rows = _rows()
    _refuse_outdated()
    metrics, seed = Path("metrics"), load(run.PARAMS).seeds[0]
    pictures = metrics / f"plots/prototypes/seed{seed}"
    made, page = metrics / "prototypes", [(metrics / "prototypes/page.md").read_text().strip()]
    if not len(pd.read_csv(table := made / "prototypes.csv")):
        raise InputError(f"{table}: has no ProtoPNets; prototypes.per_class in {run.PARAMS} asks for them")
    files = {path.name: path for path in made.glob("prototypes.*")}
    page += ["![balanced accuracy of ProtoPNets beside filter pruning](prototypes.svg)"]
    data = json.loads(run.PREPARED.read_text())
    for of_class in data["classes"][:PICTURED_CLASSES]:
        stem = file_name(of_class)
        files |= {f"{stem}.png": pictures / f"prototypes/{stem}.png"}
        files |= {f"{stem}.1.png": pictures / f"explanations/{stem}.1.png"}
        page += [
            f"Prototypes of {of_class}, seed {seed}, in their images, and what there is like them:",
            f"![prototypes of {of_class}](<{stem}.png>)",
            "Why a test image is called what it is called:",
            f"![why a {of_class} is called so](<{stem}.1.png>)",
        ]
    said = f"ProtoPNets on the backbones of {rows['seed'].nunique()} unpruned networks, test split."
    folder, file = RESULTS / PROTOTYPES / name, Path(f"{RESULTS}-{PROTOTYPES}.md")
    text = _exported(folder, "dvc repro", files, [said, tables.majority_in_words(data["counts"]["test"]), *page])
    (folder / "page.md").write_text(text)
    parts = [f"## {path.parent.name}\n\n{_linked(path.read_text(), path.parent)}"
             for path in sorted(folder.parent.glob("*/page.md"))]  # fmt: skip
    with replacing(file) as temporary:
        temporary.write_text("\n".join(["# Results: prototypes\n", *parts]))
    print(file)


def export_target(name: str, target: str) -> None:
    """Do as `export_study` for what a target beside the study made.

    Raises
    ------
    InputError
        There is nothing, it is not that of the parameters and the code, or the code is not committed.
    """
    _refuse_uncommitted()
    metrics = Path("metrics") / target
    if not _is_up_to_date(target):
        raise InputError(f"{metrics}: not that of {run.PARAMS} and the code as they are; `make {target}` makes it")
    page = (metrics / "page.md").read_text()
    files = {file.name: file for file in metrics.iterdir() if file.name != "page.md"}
    _export(name, f"make {target}", files, [page.strip()])


def _is_up_to_date(target: str) -> bool:
    answer = subprocess.run(run.beside_command(target, "--dry-run"), capture_output=True, text=True)
    return "Nothing to be done" in answer.stdout + answer.stderr


def _export(name: str, command_line: str, files: dict[str, Path], page: list[str]) -> None:
    if name == PROTOTYPES:
        raise InputError(f"{name}: is what the ProtoPNets of all studies are exported to; take another name")
    folder, file = RESULTS / name, Path(f"{RESULTS}-{name}.md")
    text = _exported(folder, command_line, files, page)
    with replacing(file) as temporary:
        temporary.write_text(f"# Results: {name}\n\n{_linked(text, folder)}")
    print(file)


def _exported(folder: Path, command_line: str, files: dict[str, Path], page: list[str]) -> str:
    """Copy files, by their names there, the parameters and the page's tables to a folder; return the page, headed."""
    from stages.reporting import tables

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, source in {run.PARAMS.name: run.PARAMS, **files}.items():
        shutil.copy(source, folder / name)
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "zennit", "torch-pruning"))
    head = (
        f"Made at commit {provenance.commit()} by `{command_line}`, with "
        f"[these parameters](params.yaml), on {_processor()} (Python {platform.python_version()}, {packages})."
    )
    text = "\n\n".join([head, *page]) + "\n"
    (folder / "tables.tex").write_text(tables.as_latex(text))
    return text


def _linked(text: str, folder: Path) -> str:
    """Return a page of docs with links to files of a folder below docs/results."""
    return re.sub(r"\]\((<?)", rf"](\1{folder.relative_to(RESULTS.parent)}/", text)


def _refuse_outdated() -> None:
    """Refuse results that are not those of the parameters and the committed code."""
    _refuse_uncommitted()
    if _output("dvc", "status", "--json") != "{}":
        raise InputError(f"{TABLE}: not that of {run.PARAMS} and the code as they are; `dvc repro` makes it")


def _refuse_uncommitted() -> None:
    if changed := provenance.uncommitted():
        raise InputError(f"{changed[0]}: not committed; results name the commit that made them")


def _rows_at(revision: str):
    """Return the table of metrics/pruning.csv as it is at a revision."""
    import dvc.api
    import pandas as pd
    from dvc.exceptions import PathMissingError
    from dvc.scm import RevError

    if revision == WORKSPACE:
        return _rows()
    try:
        content = dvc.api.read(str(TABLE), rev=revision)
    except RevError:
        raise InputError(f"{revision}: no such commit, or experiment of `dvc exp list --all-commits`") from None
    except PathMissingError:
        raise InputError(f"{revision}: has no {TABLE}; {KEEP} keeps a study") from None
    with naming(f"{TABLE} of {revision}"):
        return pd.read_csv(io.StringIO(content))


def _rows():
    import pandas as pd

    if not TABLE.exists():
        raise InputError(f"{TABLE}: does not exist yet; `make run` makes it")
    return pd.read_csv(TABLE)


def _output(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(models)} cores of {models[0]}" if models else platform.machine()


if __name__ == "__main__":
    command.run(main)
