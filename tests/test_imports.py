"""What modules import: in one direction, completely listed in dvc.yaml, and nothing a stage does not need."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

STAGES = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
MODULES = {
    path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in Path("stages").rglob("*.py")
}
STAGE_MODULES = {"prepare", "train", "relevance", "prune", "evaluate", "latency", "compare", "statistics", "safety"} | {
    "deployment",
    "few_shot",
    "latency_few_shot",
    "compare_few_shot",
    "report",
    "drift",
    "compare_drift",
    "toy_problem",
    "toy",
    "one_shot",
    "curves",
    "layer_sensitivity",
    "sensitivity",
}
BRIDGE = {"stages.run", "stages.study", "stages.preset"}
HEAVY = {
    "torch",
    "torchvision",
    "lightning_fabric",
    "sklearn",
    "matplotlib",
    "zennit",
    "torch_pruning",
    "pandas",
    "dvc",
}


def imported(path):
    """Return the project's modules that a file imports, wherever the statement stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name in MODULES}


def closure(name):
    found, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += imported(MODULES[module])
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_of_a_dvc_stage_are_exactly_the_modules_its_rules_use(stage):
    rules = STAGES[stage]["meta"]["rules"]
    used = set().union(*(closure(f"stages.{rule}") for rule in rules if f"stages.{rule}" in MODULES))
    used = {MODULES[name].as_posix() for name in used if name.count(".") > 0}
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")]
    missing = {path for path in used if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)}
    assert not missing
    unused = {dep for dep in deps if not any(path == dep or path.startswith(f"{dep}/") for path in used)}
    assert not unused


@pytest.mark.parametrize("stage", STAGES)
def test_what_comes_after_the_chains_is_nothing_that_a_chain_uses(stage):
    meta = STAGES[stage]["meta"]
    chains = {"train", "relevance", "prune", "evaluate", "few_shot", "drift", "layer_sensitivity", "concepts"}
    chains |= {"concept_changes", "prototypes", "prune_prototypes", "prune_backbone", "evaluate_prototypes"}
    chains &= set(meta["rules"])
    used = {MODULES[name].as_posix() for rule in chains for name in closure(f"stages.{rule}") if name.count(".") > 0}
    deps = [dep for dep in STAGES[stage]["deps"] if dep not in meta.get("after_chains", [])]
    assert not {path for path in used if not any(path == dep or path.startswith(f"{dep}/") for dep in deps)}
    assert set(meta.get("after_chains", [])) <= set(STAGES[stage]["deps"])


def test_targets_beside_the_study_watch_exactly_the_modules_their_rules_use():
    calls = re.findall(r"code=code\((.+?)\)", Path("Snakefile").read_text(), re.DOTALL)
    assert len(calls) == 4
    for call in calls:
        stage, *parts = re.findall(r'"([^"]+)"', call)
        shared = ["command.py", "device.py", "errors.py", "files.py", "params"]
        watched = [f"stages/{part}" for part in [f"{stage}.py", *parts, *shared]]
        used = {MODULES[name].as_posix() for name in closure(f"stages.{stage}") if name.count(".") > 0}
        assert not {path for path in used if not any(path == part or path.startswith(f"{part}/") for part in watched)}
        chosen = [f"stages/{part}" for part in parts]
        assert not [part for part in chosen if not any(path == part or path.startswith(f"{part}/") for path in used)]


def test_nothing_imports_a_stage_module_and_the_library_knows_no_caller():
    order = {"datasets": 0, "networks": 0, "attribution": 0, "reporting": 0, "pruning": 1, "training": 1}
    order |= {"params": -1, "assistant": 2}
    for name, path in MODULES.items():
        parts = name.split(".")
        for other in imported(path):
            target = other.split(".")
            if len(target) == 2 and target[1] in STAGE_MODULES:
                assert name in BRIDGE, f"{name} imports the stage module {other}"
            if len(parts) > 2 and len(target) > 2:
                assert order[target[1]] <= order[parts[1]], f"{name} imports {other}"


def test_nothing_of_the_study_imports_the_assistant():
    of_the_study = {name: path for name, path in MODULES.items() if not name.startswith("stages.assistant")}
    assert not [name for name, path in of_the_study.items() if any("assistant" in each for each in imported(path))]


@pytest.mark.parametrize(
    ("stage", "allowed"),
    [
        ("prepare", {"torch", "pandas"}),
        ("train", {"torch", "torchvision", "pandas"}),
        ("relevance", {"torch", "torchvision", "pandas", "zennit"}),
        ("prune", {"torch", "torchvision", "pandas", "torch_pruning", "lightning_fabric"}),
        ("evaluate", {"torch", "torchvision", "pandas"}),
        ("latency", {"torch", "torchvision"}),
        ("deployment", {"pandas", "matplotlib"}),
        ("latency_few_shot", {"torch", "torchvision"}),
        ("compare", {"pandas", "matplotlib"}),
        ("statistics", {"pandas", "matplotlib"}),
        ("safety", {"pandas", "matplotlib"}),
        ("few_shot", {"torch", "torchvision", "pandas", "zennit", "torch_pruning"}),
        ("compare_few_shot", {"pandas", "matplotlib"}),
        ("report", {"pandas"}),
        ("drift", {"torch", "torchvision", "pandas", "zennit", "matplotlib"}),
        ("compare_drift", {"pandas", "matplotlib"}),
        ("toy_problem", {"torch", "torchvision", "pandas", "zennit", "torch_pruning"}),
        ("one_shot", {"torch", "torchvision", "pandas", "zennit", "torch_pruning"}),
        ("curves", {"pandas", "matplotlib"}),
        ("layer_sensitivity", {"torch", "torchvision", "pandas", "zennit", "torch_pruning"}),
        ("sensitivity", {"pandas", "matplotlib"}),
        ("run", set()),
    ],
)
def test_a_stage_starts_with_no_more_than_it_needs(stage, allowed):
    code = f"import os, sys, stages.{stage}; print(*{{name.split('.')[0] for name in sys.modules}}, flush=True)"
    code += "; os._exit(0)"  # at once: to take down all modules takes Python two seconds
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) <= allowed
