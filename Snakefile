"""Pruning by explanation: every job of the study.

`dvc repro` runs it, one DVC stage after another (`stages/run.py` passes a key for each chain of jobs). By hand it
shows (`snakemake -n`, `--dag`, `--report`); it writes the study only under DVC, which versions what is written. Beside
the study stand targets of their own: `toy` and `curves`.
"""

import os
from functools import cache

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from stages.files import sha256
from stages.params import load
from stages.run import BESIDE

min_version("9.0")

PARAMS = config.get("params", "params.yaml")
WORK = config.get("work", ".work")
KEYS = config.get("keys", {})
STEP_KEYS = config.get("step_keys", {})
STUDY = load(PARAMS)
CRITERIA, SEEDS, STEPS = STUDY.prune.criteria, STUDY.seeds, range(1, STUDY.prune.steps + 1)
DEPLOYED = {"none": [], "first": CRITERIA[:1], "all": CRITERIA}[STUDY.evaluate.onnx]
PREPARED = ["data/prepared/images.npy", "data/prepared/index.csv", "data/prepared/dataset.json"]
PREPARED[:0] = ["data/prepared/masks.npy"] if STUDY.data.masks else []
BASELINE = "models/baseline/seed{seed}"
PRUNED = "models/pruned/{criterion}/seed{seed}/step{step}"
TRAINED = f"{WORK}/train/{{key}}/seed{{seed}}"
STEP = f"{WORK}/prune/{{key}}/{{criterion}}/seed{{seed}}/step{{step}}"
EVALUATED = f"{WORK}/evaluate/{{key}}/{{criterion}}/seed{{seed}}"
FEW_SHOT = f"{WORK}/few_shot/{{key}}/k{{images}}/{{criterion}}/seed{{seed}}"
SENSITIVITY = f"{WORK}/sensitivity/{{key}}/{{criterion}}/seed{{seed}}.csv"
DRIFT = f"{WORK}/drift/{{key}}/{{criterion}}/seed{{seed}}"
DRIFT_PICTURES = "metrics/drift/{criterion}/seed{seed}.png"
CONCEPTS = f"{WORK}/concepts/{{key}}/seed{{seed}}"
GRAPHS = f"{CONCEPTS}/graphs.json"
CHANGES = f"{WORK}/concepts/{{key}}/{{criterion}}/seed{{seed}}"
PROTOTYPES = f"{WORK}/prototypes/{{key}}/seed{{seed}}"
PROTOTYPE_SEEDS = SEEDS if STUDY.prototypes.per_class else []
OF_FILTERS = [f"filters/{criterion}" for criterion in STUDY.prototypes.backbone.criteria]
PROTOPNETS = ["trained", "pruned", "tuned", *OF_FILTERS]
OF_PROTOTYPES = ["trained.history.csv", "plan.json", *(f"{name}.safetensors" for name in PROTOPNETS)]
OF_PROTOTYPES += [f"{name}.plan.json" for name in OF_FILTERS]
PROTOTYPE_PICTURES = "metrics/plots/prototypes/seed{seed}"
NO_PROTOTYPES = ["models/prototypes/none", "metrics/plots/prototypes/none"]
CONCEPT_PICTURES = "metrics/plots/concepts/seed{seed}"
PICTURED_PROTOTYPES = ["prototypes", "explanations", "explanations.json"]
PICTURED = ["heatmaps", "references", "chosen", "strategies", "strategies.json", "graphs", "graphs.json"]
FEW_SHOT_PREDICTIONS = "metrics/few_shot/predictions/k{images}/{criterion}/seed{seed}.parquet"
PREDICTIONS = "metrics/predictions/{criterion}/seed{seed}.parquet"
HISTORY = ".history.csv"
OF_A_BASELINE = [HISTORY, ".safetensors"]
NETWORKS = {"pruned": ".pruned.safetensors", "finetuned": ".safetensors"}
OF_A_STEP = [HISTORY, ".scores.npz", ".diagnostics.json", ".plan.json"]
OF_A_STEP += [end for phase, end in NETWORKS.items() if STUDY.models.keeps(1, 2, phase)]
LAST = expand(f"{PRUNED}.safetensors", step=STEPS[-1], allow_missing=True)
PLOTS = expand("metrics/plots/{name}.svg", name=["accuracy", "balanced_accuracy", "layers", "training"])
COMPARISON = ["levels", "areas", "pairs", "stability", "levels_latency", "areas_latency", "pairs_latency"]
FEW_SHOT_COMPARISON = expand("metrics/few_shot{at}/{name}.csv", at=["", "_latency"], name=["levels", "areas", "pairs"])
SAFETY = ["classes", "subgroups", "subgroup_classes", "confusion", "reliability", "flips"]
METRICS = ["headline.json", "baseline.json", "summary.json", "pruning.csv", "layers.csv", "history.csv", "chains.csv"]
METRICS += ["latency.csv"]


wildcard_constraints:
    key="[0-9a-z]+",
    criterion="[a-z0-9-]+",
    kind="criterion|setting",
    variant="[a-z0-9-]+",
    seed=r"\d+",
    images=r"[1-9]\d*",
    step=r"[1-9]\d*",


localrules:
    all,
    stage_prepare,
    stage_train,
    stage_prune,
    stage_evaluate,
    stage_sensitivity,
    stage_few_shot,
    stage_drift,
    stage_concepts,
    stage_prototypes,
    stage_report,
    publish_baseline,
    publish_pruned,
    publish_predictions,
    publish_few_shot,
    publish_drift,
    publish_concepts,
    publish_prototypes,
    publish_prototype_pictures,
    no_prototypes,


onstart:
    of_the_study = [job for job in workflow.dag.needrun_jobs() if job.rule.name not in sum(BESIDE.values(), [])]
    if not KEYS and any(job.output for job in of_the_study):
        raise WorkflowError(
            "the study is run by `dvc repro`, which versions what it writes (`snakemake -n` shows jobs)"
        )


def code(stage, *parts):
    """Return digests of a stage's code, for targets beside the study: DVC does not watch it for them."""
    shared = ["command.py", "device.py", "errors.py", "files.py", "params"]
    return [content(f"stages/{part}") for part in [f"{stage}.py", *parts, *shared]]


def started(wildcards, threads, resources):
    """Return what starts the processes that share a job, one a GPU: as many as the profile says, or one.

    `tasks_per_node` is their number, on each of `nodes`; with `mpi: srun` SLURM starts them, and has to where nodes are several.
    """
    processes = resources.get("tasks_per_node", 1)
    if resources.get("mpi"):
        step = f"--nodes={resources.get('nodes', 1)} --ntasks-per-node={processes} --cpus-per-task={threads}"
        return f"{resources.mpi} {step} python"
    return f"STUDY_PROCESSES={processes} python" if processes > 1 else "python"


@cache
def content(file):
    """Return the SHA-256 of a file or folder; of one that is not there yet, nothing."""
    return sha256(file) if os.path.exists(file) else None


rule all:
    input:
        expand("metrics/{name}", name=METRICS),
        expand("metrics/comparison/{name}.csv", name=COMPARISON),
        expand("metrics/safety/{name}.csv", name=SAFETY),
        "metrics/deployment/page.md",
        PLOTS,
        "metrics/sensitivity/page.md",
        "metrics/few_shot.csv",
        FEW_SHOT_COMPARISON,
        "metrics/drift/drift.csv",
        "metrics/concepts/atlas.csv",
        "metrics/prototypes/prototypes.csv",
        "metrics/report.html",


# One target a DVC stage.


rule stage_prepare:
    input:
        PREPARED,


rule stage_train:
    input:
        expand(f"{BASELINE}{{part}}", seed=SEEDS, part=OF_A_BASELINE),


rule stage_prune:
    input:
        expand(f"{PRUNED}{{part}}", criterion=CRITERIA, seed=SEEDS, step=STEPS, part=OF_A_STEP),
        expand(LAST, criterion=CRITERIA, seed=SEEDS),


rule stage_evaluate:
    input:
        expand("metrics/{name}", name=METRICS),
        expand("metrics/comparison/{name}.csv", name=COMPARISON),
        expand("metrics/safety/{name}.csv", name=SAFETY),
        "metrics/deployment/page.md",
        PLOTS,
        expand(PREDICTIONS, criterion=["baseline", *CRITERIA], seed=SEEDS),


rule stage_sensitivity:
    input:
        "metrics/sensitivity/page.md",


rule stage_few_shot:
    input:
        "metrics/few_shot.csv",
        FEW_SHOT_COMPARISON,
        expand(FEW_SHOT_PREDICTIONS, images=STUDY.few_shot.images_per_class, criterion=CRITERIA, seed=SEEDS),


rule stage_drift:
    input:
        "metrics/drift/drift.csv",
        expand(DRIFT_PICTURES, criterion=CRITERIA, seed=SEEDS),


rule stage_concepts:
    input:
        "metrics/concepts/atlas.csv",
        expand(f"{CONCEPT_PICTURES}/graphs.json", seed=SEEDS),


rule stage_prototypes:
    input:
        "metrics/prototypes/prototypes.csv",
        expand("models/prototypes/seed{seed}/{name}", seed=PROTOTYPE_SEEDS, name=OF_PROTOTYPES),
        expand(f"{PROTOTYPE_PICTURES}/explanations.json", seed=PROTOTYPE_SEEDS),
        [] if PROTOTYPE_SEEDS else NO_PROTOTYPES,


rule stage_report:
    input:
        "metrics/report.html",


# The jobs. Every input is ancient(): what a file holds is decided by the key in its path or by the DVC stage before,
# and its time says nothing (DVC restores files, links share times). A job runs when its output is missing.


rule prepare:
    input:
        study=ancient(PARAMS),
        source=ancient(STUDY.data.source),
    output:
        PREPARED,
    log:
        "logs/prepare.log",
    threads: os.cpu_count()
    shell:
        "python -m stages.prepare --params {input.study:q} --source {input.source:q} --prepared data/prepared"
        " --threads {threads} 2>&1 | tee {log:q}"


rule train:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
    output:
        checkpoint=f"{TRAINED}.safetensors",
        history=f"{TRAINED}.history.csv",
    log:
        "logs/train/seed{seed}.{key}.log",
    threads: STUDY.train.threads
    resources:
        gpu=1,
    params:
        python=started,
    shell:
        "{params.python} -m stages.train --params {input.study:q} --data data/prepared --seed {wildcards.seed}"
        " --checkpoint {output.checkpoint:q} --history {output.history:q} 2>&1 | tee {log:q}"


rule relevance:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=lambda step: before(step),
    output:
        scores=f"{STEP}.scores.npz",
        diagnostics=f"{STEP}.diagnostics.json",
    log:
        "logs/relevance/{criterion}/seed{seed}/step{step}.{key}.log",
    threads: STUDY.prune.finetune.threads
    resources:
        gpu=1,
    params:
        python=started,
    shell:
        "{params.python} -m stages.relevance --params {input.study:q} --data data/prepared --criterion {wildcards.criterion}"
        " --seed {wildcards.seed} --step {wildcards.step}"
        " --checkpoint {input.checkpoint:q} --scores {output.scores:q}"
        " --diagnostics {output.diagnostics:q} 2>&1 | tee {log:q}"


rule prune:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        unpruned=ancient(f"{BASELINE}.safetensors"),
        checkpoint=lambda step: before(step),
        scores=lambda step: ancient(of_step(step.key, step, ".scores.npz")),
        before=lambda step: before(step, ".plan.json") if step.step != "1" else [],
    output:
        plan=f"{STEP}.plan.json",
        pruned=f"{STEP}.pruned.safetensors",
        finetuned=f"{STEP}.safetensors",
        history=f"{STEP}.history.csv",
    log:
        "logs/prune/{criterion}/seed{seed}/step{step}.{key}.log",
    threads: STUDY.prune.finetune.threads
    resources:
        gpu=1,
    params:
        python=started,
    shell:
        "{params.python} -m stages.prune --params {input.study:q} --data data/prepared --criterion {wildcards.criterion}"
        " --seed {wildcards.seed} --step {wildcards.step} --unpruned {input.unpruned:q} --checkpoint {input.checkpoint:q}"
        " --scores {input.scores:q} --before {input.before:q} --plan {output.plan:q} --pruned {output.pruned:q}"
        " --finetuned {output.finetuned:q} --history {output.history:q} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoints=lambda chain: ancient(checkpoints(chain.criterion, chain.seed)),
    output:
        rows=f"{EVALUATED}.csv",
        predictions=f"{EVALUATED}.parquet",
    log:
        "logs/evaluate/{criterion}/seed{seed}.{key}.log",
    threads: STUDY.evaluate.threads
    resources:
        gpu=1,
    shell:
        "python -m stages.evaluate --params {input.study:q} --data data/prepared --checkpoints {input.checkpoints:q}"
        " --rows {output.rows:q} --predictions {output.predictions:q} 2>&1 | tee {log:q}"


rule latency:
    input:
        study=ancient(PARAMS),
        baselines=ancient(expand(f"{BASELINE}.safetensors", seed=SEEDS)),
        pruned=lambda _: ancient(
            [network(criterion, seed, step) for criterion in CRITERIA for seed in SEEDS for step in STEPS]
        ),
    output:
        "metrics/latency.csv",
    log:
        "logs/latency.log",
    threads: os.cpu_count()
    resources:
        gpu=1,
    shell:
        "python -m stages.latency --params {input.study:q} --checkpoints {input.baselines:q} {input.pruned:q}"
        " --latency {output:q} 2>&1 | tee {log:q}"


rule deployment:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoints=lambda _: ancient([network(criterion, SEEDS[0], STEPS[-1]) for criterion in DEPLOYED]),
    output:
        multiext("metrics/deployment/", "deployment.csv", "page.md"),  # and, if asked, a figure
    log:
        "logs/deployment.log",
    threads: os.cpu_count()
    shell:
        "python -m stages.deployment --params {input.study:q} --data data/prepared --checkpoints {input.checkpoints:q}"
        " --folder metrics/deployment 2>&1 | tee {log:q}"


rule compare:
    input:
        study=ancient(PARAMS),
        rows=lambda _: ancient(
            [of_chain(criterion, seed, ".csv") for criterion in ["baseline", *CRITERIA] for seed in SEEDS]
        ),
        plans=ancient(expand(f"{PRUNED}.plan.json", criterion=CRITERIA, seed=SEEDS, step=STEPS)),
        histories=ancient(
            [
                *expand(f"{BASELINE}.history.csv", seed=SEEDS),
                *expand(f"{PRUNED}.history.csv", criterion=CRITERIA, seed=SEEDS, step=STEPS),
            ]
        ),
    output:
        pruning="metrics/pruning.csv",
        headline="metrics/headline.json",
        summary="metrics/summary.json",
        baseline="metrics/baseline.json",
        layers="metrics/layers.csv",
        history="metrics/history.csv",
        chains="metrics/chains.csv",
        plots=PLOTS,
    log:
        "logs/compare.log",
    shell:
        "python -m stages.compare --params {input.study:q} --rows {input.rows:q} --plans {input.plans:q}"
        " --histories {input.histories:q} --pruning {output.pruning:q} --headline {output.headline:q}"
        " --summary {output.summary:q} --baseline {output.baseline:q} --layers {output.layers:q} --history {output.history:q}"
        " --chains {output.chains:q} --plots metrics/plots 2>&1 | tee {log:q}"


rule statistics:
    input:
        study=ancient(PARAMS),
        pruning=ancient("metrics/pruning.csv"),
        latency=ancient("metrics/latency.csv"),
        predictions=ancient(expand(PREDICTIONS, criterion=["baseline", *CRITERIA], seed=SEEDS)),
    output:
        expand("metrics/comparison/{name}.csv", name=COMPARISON),
        multiext("metrics/comparison/", "time.svg", "page.md"),
    log:
        "logs/statistics.log",
    threads: STUDY.evaluate.threads
    shell:
        "python -m stages.statistics --params {input.study:q} --pruning {input.pruning:q} --latency {input.latency:q}"
        " --predictions {input.predictions:q} --folder metrics/comparison 2>&1 | tee {log:q}"


rule safety:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        predictions=ancient(expand(PREDICTIONS, criterion=["baseline", *CRITERIA], seed=SEEDS)),
    output:
        expand("metrics/safety/{name}.csv", name=SAFETY),
        multiext("metrics/safety/", "page.md", "confusion.svg", "reliability.svg", "flips.png"),
    log:
        "logs/safety.log",
    shell:
        "python -m stages.safety --params {input.study:q} --data data/prepared --predictions {input.predictions:q}"
        " --folder metrics/safety 2>&1 | tee {log:q}"


rule layer_sensitivity:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=ancient(f"{BASELINE}.safetensors"),
    output:
        SENSITIVITY,
    log:
        "logs/layer_sensitivity/{criterion}/seed{seed}.{key}.log",
    threads: STUDY.evaluate.threads
    resources:
        gpu=1,
    shell:
        "python -m stages.layer_sensitivity --params {input.study:q} --data data/prepared"
        " --checkpoint {input.checkpoint:q} --criterion {wildcards.criterion} --seed {wildcards.seed}"
        " --rows {output:q} 2>&1 | tee {log:q}"


rule sensitivity:
    input:
        study=ancient(PARAMS),
        rows=lambda _: ancient(
            [
                SENSITIVITY.format(key=key_of("baseline", seed), criterion=criterion, seed=seed)
                for criterion in STUDY.sensitivity.criteria
                for seed in SEEDS
            ]
        ),
    output:
        "metrics/sensitivity/page.md",  # and, if asked, tables and a figure
    log:
        "logs/sensitivity.log",
    shell:
        "python -m stages.sensitivity --params {input.study:q} --rows {input.rows:q} --folder metrics/sensitivity"
        " 2>&1 | tee {log:q}"


rule few_shot:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=ancient(f"{BASELINE}.safetensors"),
    output:
        rows=f"{FEW_SHOT}.csv",
        predictions=f"{FEW_SHOT}.parquet",
        architectures=f"{FEW_SHOT}.architectures.json",
    log:
        "logs/few_shot/k{images}/{criterion}/seed{seed}.{key}.log",
    threads: STUDY.few_shot.threads
    resources:
        gpu=1,
    shell:
        "python -m stages.few_shot --params {input.study:q} --data data/prepared --criterion {wildcards.criterion}"
        " --seed {wildcards.seed} --images {wildcards.images} --checkpoint {input.checkpoint:q}"
        " --rows {output.rows:q} --predictions {output.predictions:q} --architectures {output.architectures:q}"
        " 2>&1 | tee {log:q}"


rule latency_few_shot:
    input:
        study=ancient(PARAMS),
        architectures=lambda _: ancient(few_shot_chains(".architectures.json")),
    output:
        "metrics/few_shot_latency/latency.csv",
    log:
        "logs/latency_few_shot.log",
    threads: os.cpu_count()
    resources:
        gpu=1,
    shell:
        "python -m stages.latency_few_shot --params {input.study:q} --architectures {input.architectures:q}"
        " --latency {output:q} 2>&1 | tee {log:q}"


rule compare_few_shot:
    input:
        study=ancient(PARAMS),
        rows=lambda _: ancient(few_shot_chains(".csv")),
        predictions=ancient(
            expand(FEW_SHOT_PREDICTIONS, images=STUDY.few_shot.images_per_class, criterion=CRITERIA, seed=SEEDS)
        ),
        latency=ancient("metrics/few_shot_latency/latency.csv"),
    output:
        FEW_SHOT_COMPARISON,
        multiext("metrics/few_shot/", "few_shot.svg", "page.md"),
        table="metrics/few_shot.csv",
    log:
        "logs/compare_few_shot.log",
    threads: STUDY.evaluate.threads
    shell:
        "python -m stages.compare_few_shot --params {input.study:q} --rows {input.rows:q}"
        " --predictions {input.predictions:q} --latency {input.latency:q} --table {output.table:q}"
        " --folder metrics/few_shot --timed metrics/few_shot_latency 2>&1 | tee {log:q}"


rule drift:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        unpruned=ancient(f"{BASELINE}.safetensors"),
        checkpoints=lambda chain: ancient([network(chain.criterion, chain.seed, step) for step in STEPS]),
    output:
        rows=f"{DRIFT}.csv",
        pictures=f"{DRIFT}.png",
    log:
        "logs/drift/{criterion}/seed{seed}.{key}.log",
    threads: STUDY.drift.threads
    resources:
        gpu=1,
    shell:
        "python -m stages.drift --params {input.study:q} --data data/prepared --unpruned {input.unpruned:q}"
        " --checkpoints {input.checkpoints:q} --rows {output.rows:q} --pictures {output.pictures:q} 2>&1 | tee {log:q}"


rule compare_drift:
    input:
        study=ancient(PARAMS),
        rows=lambda _: ancient(
            [
                DRIFT.format(key=key_of(criterion, seed), criterion=criterion, seed=seed) + ".csv"
                for criterion in CRITERIA
                for seed in SEEDS
            ]
        ),
    output:
        multiext("metrics/drift/", "drift.csv", "drift.svg", "page.md"),
    log:
        "logs/compare_drift.log",
    shell:
        "python -m stages.compare_drift --params {input.study:q} --rows {input.rows:q} --folder metrics/drift"
        " 2>&1 | tee {log:q}"


rule concepts:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=ancient(f"{BASELINE}.safetensors"),
    output:
        multiext(f"{CONCEPTS}/", "graphs.json", "strategies.json", "atlas.csv", "layers.csv"),  # and pictures: the folder is written as a whole
    log:
        "logs/concepts/seed{seed}.{key}.log",
    threads: STUDY.concepts.threads
    resources:
        gpu=1,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "python -m stages.concepts --params {input.study:q} --data data/prepared --checkpoint {input.checkpoint:q}"
        " --folder {params.folder:q} 2>&1 | tee {log:q}"


rule concept_changes:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        unpruned=ancient(f"{BASELINE}.safetensors"),
        checkpoint=lambda chain: ancient(network(chain.criterion, chain.seed, STEPS[-1])),
        plans=ancient(expand(f"{PRUNED}.plan.json", step=STEPS, allow_missing=True)),
    output:
        rows=f"{CHANGES}.csv",
        fates=f"{CHANGES}.fates.csv",
    log:
        "logs/concept_changes/{criterion}/seed{seed}.{key}.log",
    threads: STUDY.concepts.threads
    resources:
        gpu=1,
    shell:
        "python -m stages.concept_changes --params {input.study:q} --data data/prepared --unpruned {input.unpruned:q}"
        " --checkpoint {input.checkpoint:q} --plans {input.plans:q} --rows {output.rows:q} --fates {output.fates:q}"
        " 2>&1 | tee {log:q}"


rule compare_concepts:
    input:
        study=ancient(PARAMS),
        graphs=lambda _: ancient([GRAPHS.format(key=key_of("baseline", seed), seed=seed) for seed in SEEDS]),
        changes=lambda _: ancient([of_concepts(criterion, seed, ".csv") for criterion in CRITERIA for seed in SEEDS]),
        fates=lambda _: ancient(
            [of_concepts(criterion, seed, ".fates.csv") for criterion in CRITERIA for seed in SEEDS]
        ),
    output:
        multiext("metrics/concepts/", "atlas.csv", "layers.csv", "changes.csv", "fates.csv", "changes.svg", "page.md"),
    log:
        "logs/compare_concepts.log",
    params:
        atlases=lambda _, input: [os.path.dirname(file) for file in input.graphs],
    shell:
        "python -m stages.compare_concepts --params {input.study:q} --atlases {params.atlases:q}"
        " --changes {input.changes:q} --fates {input.fates:q} --folder metrics/concepts 2>&1 | tee {log:q}"


rule prototypes:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        backbone=ancient(f"{BASELINE}.safetensors"),
    output:
        checkpoint=f"{PROTOTYPES}/trained.safetensors",
        history=f"{PROTOTYPES}/trained.history.csv",
    log:
        "logs/prototypes/seed{seed}.{key}.log",
    threads: STUDY.prototypes.threads
    resources:
        gpu=1,
    params:
        python=started,
    shell:
        "{params.python} -m stages.prototypes --params {input.study:q} --data data/prepared --seed {wildcards.seed}"
        " --backbone {input.backbone:q} --checkpoint {output.checkpoint:q} --history {output.history:q} 2>&1 | tee {log:q}"


rule prune_prototypes:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=ancient(f"{PROTOTYPES}/trained.safetensors"),
    output:
        pruned=f"{PROTOTYPES}/pruned.safetensors",
        tuned=f"{PROTOTYPES}/tuned.safetensors",
        plan=f"{PROTOTYPES}/plan.json",
    log:
        "logs/prune_prototypes/seed{seed}.{key}.log",
    threads: STUDY.prototypes.threads
    resources:
        gpu=1,
    shell:
        "python -m stages.prune_prototypes --params {input.study:q} --data data/prepared --seed {wildcards.seed}"
        " --checkpoint {input.checkpoint:q} --pruned {output.pruned:q} --tuned {output.tuned:q} --plan {output.plan:q}"
        " 2>&1 | tee {log:q}"


rule prune_backbone:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=ancient(f"{PROTOTYPES}/tuned.safetensors"),
    output:
        finetuned=f"{PROTOTYPES}/filters/{{criterion}}.safetensors",
        plan=f"{PROTOTYPES}/filters/{{criterion}}.plan.json",
    log:
        "logs/prune_backbone/{criterion}/seed{seed}.{key}.log",
    threads: STUDY.prototypes.threads
    resources:
        gpu=1,
    params:
        python=started,
    shell:
        "{params.python} -m stages.prune_backbone --params {input.study:q} --data data/prepared"
        " --criterion {wildcards.criterion} --seed {wildcards.seed} --checkpoint {input.checkpoint:q}"
        " --finetuned {output.finetuned:q} --plan {output.plan:q} 2>&1 | tee {log:q}"


rule evaluate_prototypes:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        classifier=ancient(f"{BASELINE}.safetensors"),
        networks=ancient(expand(f"{PROTOTYPES}/{{name}}.safetensors", name=PROTOPNETS, allow_missing=True)),
        pictured=ancient(f"{PROTOTYPES}/tuned.safetensors"),
    output:
        multiext(f"{PROTOTYPES}/evaluated/", "rows.csv", "explanations.json"),  # and pictures: the folder is written as a whole
    log:
        "logs/evaluate_prototypes/seed{seed}.{key}.log",
    threads: STUDY.prototypes.threads
    resources:
        gpu=1,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "python -m stages.evaluate_prototypes --params {input.study:q} --data data/prepared --seed {wildcards.seed}"
        " --classifier {input.classifier:q} --checkpoints {input.networks:q} --pictured {input.pictured:q}"
        " --folder {params.folder:q} 2>&1 | tee {log:q}"


rule compare_prototypes:
    input:
        study=ancient(PARAMS),
        rows=lambda _: ancient([of_prototypes(seed, "evaluated/rows.csv") for seed in PROTOTYPE_SEEDS]),
        plans=lambda _: ancient([of_prototypes(seed, "plan.json") for seed in PROTOTYPE_SEEDS]),
        pruning=ancient("metrics/pruning.csv"),
    output:
        multiext("metrics/prototypes/", "prototypes.csv", "page.md"),  # and a figure
    log:
        "logs/compare_prototypes.log",
    shell:
        "python -m stages.compare_prototypes --params {input.study:q} --rows {input.rows:q} --plans {input.plans:q}"
        " --pruning {input.pruning:q} --folder metrics/prototypes 2>&1 | tee {log:q}"


rule report:
    input:
        ancient("metrics/prototypes/prototypes.csv"),
        ancient(expand(f"{PROTOTYPE_PICTURES}/explanations.json", seed=PROTOTYPE_SEEDS[:1])),
        ancient("metrics/drift/drift.csv"),
        ancient("metrics/concepts/atlas.csv"),
        ancient(expand(f"{CONCEPT_PICTURES}/graphs.json", seed=SEEDS[0])),
        ancient(expand(DRIFT_PICTURES, criterion=CRITERIA, seed=SEEDS[0])),
        ancient(PREPARED),
        ancient(expand("metrics/{name}", name=METRICS)),
        ancient(expand("metrics/comparison/{name}.csv", name=COMPARISON)),
        ancient(expand("metrics/safety/{name}.csv", name=SAFETY)),
        ancient("metrics/deployment/page.md"),
        ancient(PLOTS),
        ancient(FEW_SHOT_COMPARISON),
        ancient("metrics/sensitivity/page.md"),
        study=ancient(PARAMS),
    output:
        "metrics/report.html",
    log:
        "logs/report.log",
    shell:
        "python -m stages.report --params {input.study:q} --data data/prepared --metrics metrics"
        " --report {output:q} 2>&1 | tee {log:q}"


# Finished files go from the work folder, which DVC never touches, to the outputs that DVC versions. Each rule names the
# history alone as its input, or the one file that it links. Jobs write the history last, so where it is, the rest is. And
# Snakemake stamps outputs one after another: a linked input is stamped with its output, and one further down the list would
# seem newer than those above.


rule publish_baseline:
    input:
        lambda baseline: ancient(TRAINED.format(key=key_of("baseline", baseline.seed), seed=baseline.seed) + HISTORY),
    output:
        multiext(BASELINE, *OF_A_BASELINE),
    log:
        "logs/publish/baseline/seed{seed}.log",
    params:
        files=lambda baseline, input: [input[0].replace(HISTORY, part) for part in OF_A_BASELINE],
        folder=subpath(output[0], parent=True),
    shell:
        "(ln -f {params.files:q} {params.folder:q} || cp {params.files:q} {params.folder:q}) 2> {log:q}"


rule publish_pruned:
    input:
        lambda step: ancient(of_step(key_of(step.criterion, step.seed), step, HISTORY)),
    output:
        multiext(PRUNED, *OF_A_STEP),
    log:
        "logs/publish/{criterion}/seed{seed}/step{step}.log",
    params:
        files=lambda step, input: [input[0].replace(HISTORY, part) for part in OF_A_STEP],
        folder=subpath(output[0], parent=True),
    shell:
        "(ln -f {params.files:q} {params.folder:q} || cp {params.files:q} {params.folder:q}) 2> {log:q}"


if STUDY.models.keep == "last":

    localrules:
        publish_last,

    rule publish_last:
        input:
            lambda chain: ancient(of_step(key_of(chain.criterion, chain.seed), chain, ".safetensors", STEPS[-1])),
        output:
            LAST,
        log:
            "logs/publish/{criterion}/seed{seed}/last.log",
        shell:
            "(ln -f {input:q} {output:q} || cp {input:q} {output:q}) 2> {log:q}"


rule publish_predictions:
    input:
        lambda file: ancient(of_chain(file.criterion, file.seed, ".parquet")),
    output:
        PREDICTIONS,
    log:
        "logs/publish/predictions/{criterion}/seed{seed}.log",
    shell:
        "(ln -f {input:q} {output:q} || cp {input:q} {output:q}) 2> {log:q}"


rule publish_few_shot:
    input:
        lambda file: ancient(FEW_SHOT.format(key=key_of(file.criterion, file.seed), **file) + ".parquet"),
    output:
        FEW_SHOT_PREDICTIONS,
    log:
        "logs/publish/few_shot/k{images}/{criterion}/seed{seed}.log",
    shell:
        "(ln -f {input:q} {output:q} || cp {input:q} {output:q}) 2> {log:q}"


rule publish_drift:
    input:
        lambda file: ancient(DRIFT.format(key=key_of(file.criterion, file.seed), **file) + ".png"),
    output:
        DRIFT_PICTURES,
    log:
        "logs/publish/drift/{criterion}/seed{seed}.log",
    shell:
        "(ln -f {input:q} {output:q} || cp {input:q} {output:q}) 2> {log:q}"


rule publish_concepts:
    input:
        lambda baseline: ancient(GRAPHS.format(key=key_of("baseline", baseline.seed), seed=baseline.seed)),
    output:
        f"{CONCEPT_PICTURES}/graphs.json",
    log:
        "logs/publish/concepts/seed{seed}.log",
    params:
        made=lambda baseline, input: [os.path.join(os.path.dirname(input[0]), part) for part in PICTURED],
        folder=subpath(output[0], parent=True),
    shell:
        "(cp -rlf {params.made:q} {params.folder:q} || cp -rf {params.made:q} {params.folder:q}) 2> {log:q}"


rule publish_prototypes:
    input:
        lambda file: ancient(of_prototypes(file.seed, file.name)),
    output:
        "models/prototypes/seed{seed}/{name}",
    log:
        "logs/publish/prototypes/seed{seed}/{name}.log",
    shell:
        "(ln -f {input:q} {output:q} || cp {input:q} {output:q}) 2> {log:q}"


rule no_prototypes:
    output:
        NO_PROTOTYPES,
    log:
        "logs/publish/no_prototypes.log",
    shell:
        "touch {output:q} 2> {log:q}"


rule publish_prototype_pictures:
    input:
        lambda file: ancient(of_prototypes(file.seed, "evaluated/explanations.json")),
    output:
        f"{PROTOTYPE_PICTURES}/explanations.json",
    log:
        "logs/publish/prototype_pictures/seed{seed}.log",
    params:
        made=lambda file, input: [os.path.join(os.path.dirname(input[0]), part) for part in PICTURED_PROTOTYPES],
        folder=subpath(output[0], parent=True),
    shell:
        "(cp -rlf {params.made:q} {params.folder:q} || cp -rf {params.made:q} {params.folder:q}) 2> {log:q}"


# The toy study: a target of its own (`make toy`). What it reads is its code and its section of params.yaml.


rule toy_problem:
    input:
        study=ancient(PARAMS),
    output:
        rows=f"{WORK}/toy/{{problem}}.csv",
        regions=f"{WORK}/toy/{{problem}}.npz",
    log:
        "logs/toy/{problem}.log",
    threads: STUDY.toy.threads
    params:
        code=code("toy_problem", "attribution", "datasets", "networks", "pruning"),
        settings=STUDY.toy.model_dump(),
    shell:
        "python -m stages.toy_problem --params {input.study:q} --problem {wildcards.problem}"
        " --rows {output.rows:q} --regions {output.regions:q} 2>&1 | tee {log:q}"


rule toy:
    input:
        study=ancient(PARAMS),
        rows=expand(f"{WORK}/toy/{{problem}}.csv", problem=["moons", "circles", "multi"]),
        regions=expand(f"{WORK}/toy/{{problem}}.npz", problem=["moons", "circles", "multi"]),
    output:
        table="metrics/toy/table.csv",
        page="metrics/toy/page.md",
        figure="metrics/toy/toy.svg",
    log:
        "logs/toy.log",
    params:
        code=code("toy", "reporting"),
        settings=STUDY.toy.model_dump(),
    shell:
        "python -m stages.toy --params {input.study:q} --rows {input.rows:q} --regions {input.regions:q}"
        " --table {output.table:q} --page {output.page:q} --figure {output.figure:q} 2>&1 | tee {log:q}"


# Pruning at once without fine-tuning: a target of its own (`make curves`), after the baselines of the study.


rule one_shot:
    input:
        ancient(PREPARED),
        study=ancient(PARAMS),
        checkpoint=ancient(f"{BASELINE}.safetensors"),
    output:
        f"{WORK}/curves/{{kind}}/{{variant}}/seed{{seed}}.csv",
    log:
        "logs/one_shot/{kind}/{variant}/seed{seed}.log",
    threads: STUDY.evaluate.threads
    resources:
        gpu=1,
    params:
        code=code("one_shot", "attribution", "datasets", "networks", "pruning", "reporting/metrics.py"),
        data=lambda _: content(PREPARED[-1]),  # from `input` they would not be compared
        baseline=lambda job: content(f"{BASELINE}.safetensors".format(**job)),
        settings=lambda job: [
            STUDY.prune.scores.read_by(job.variant if job.kind == "criterion" else "lrp"),
            STUDY.prune.layers.model_dump(),
            STUDY.evaluate.model_dump(include={"batch_size", "threads"}),
            STUDY.curves.model_dump(include={"rates", "min_channels"}),
            STUDY.curves.settings[job.variant].model_dump() if job.kind == "setting" else None,
        ],
    shell:
        "python -m stages.one_shot --params {input.study:q} --data data/prepared --checkpoint {input.checkpoint:q}"
        " --{wildcards.kind} {wildcards.variant} --seed {wildcards.seed} --rows {output:q} 2>&1 | tee {log:q}"


rule curves:
    input:
        study=ancient(PARAMS),
        criteria=expand(f"{WORK}/curves/criterion/{{name}}/seed{{seed}}.csv", name=STUDY.curves.criteria, seed=SEEDS),
        settings=expand(f"{WORK}/curves/setting/{{name}}/seed{{seed}}.csv", name=STUDY.curves.settings, seed=SEEDS),
    output:
        multiext("metrics/curves/", "criteria.csv", "criteria.svg", "settings.csv", "settings.svg", "page.md"),
    log:
        "logs/curves.log",
    params:
        code=code("curves", "reporting"),
        kept=STUDY.curves.kept,
    shell:
        "python -m stages.curves --params {input.study:q} --criteria {input.criteria:q} --settings {input.settings:q}"
        " --folder metrics/curves 2>&1 | tee {log:q}"


# The assistant's index (stages/assistant): it reads anew what changed of the papers, the docs and the results.

SOURCES = ["assistant.yaml", "papers", "README.md", "docs"]
SOURCES += ["metrics/pruning.csv", "metrics/few_shot.csv", "metrics/report.html"]


rule index:
    output:
        touch(f"{WORK}/index/read"),
    log:
        "logs/index.log",
    params:
        sources=lambda wildcards: [content(path) for path in SOURCES],  # papers may be large: only where it runs
        code=content("stages/assistant"),
    shell:
        "python -m stages.assistant index 2>&1 | tee {log:q}"


def key_of(criterion, seed):
    """Return the key of a chain; `none` where nothing runs (dry runs, lint, reports)."""
    return KEYS.get(f"{criterion}/{seed}", "none")


def of_prototypes(seed, name):
    """Return a file of the ProtoPNets of a seed in the work folder."""
    return f"{PROTOTYPES}/{name}".format(key=key_of("baseline", seed), seed=seed)


def of_chain(criterion, seed, suffix):
    """Return a file that evaluate made of a chain."""
    return EVALUATED.format(key=key_of(criterion, seed), criterion=criterion, seed=seed) + suffix


def of_concepts(criterion, seed, suffix):
    """Return a file that concept_changes made of a chain."""
    return CHANGES.format(key=key_of(criterion, seed), criterion=criterion, seed=seed) + suffix


def few_shot_chains(suffix):
    """Return a file of every chain of the few-shot regime."""
    return [
        FEW_SHOT.format(key=key_of(criterion, seed), images=images, criterion=criterion, seed=seed) + suffix
        for images in STUDY.few_shot.images_per_class
        for criterion in CRITERIA
        for seed in SEEDS
    ]


def of_step(key, step, suffix, number=None):
    """Return a file of a step (or of step `number` of its chain) in the work folder."""
    return STEP.format(key=key, criterion=step.criterion, seed=step.seed, step=number or step.step) + suffix


def before(step, suffix=".safetensors"):
    """Return the checkpoint that a step starts from, the baseline's or that of the step before (or another file of it)."""
    if step.step == "1":
        return ancient(f"models/baseline/seed{step.seed}{suffix}")
    return ancient(of_step(step.key, step, suffix, int(step.step) - 1))


def checkpoints(criterion, seed):
    """Return what is evaluated of a chain, in order."""
    if criterion == "baseline":
        return expand(f"{BASELINE}.safetensors", seed=seed)
    return [network(criterion, seed, step, phase) for step in STEPS for phase in NETWORKS]


def network(criterion, seed, step, phase="finetuned"):
    """Return the network of a step: as it was published or, where it was not, in the work folder, where it is made again."""
    chain = {"criterion": criterion, "seed": seed, "step": step}
    if STUDY.models.keeps(step, len(STEPS), phase):
        return PRUNED.format(**chain) + NETWORKS[phase]
    return STEP.format(key=STEP_KEYS.get(f"{criterion}/{seed}", "none"), **chain) + NETWORKS[phase]
