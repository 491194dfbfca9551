import pytest

from stages import disk
from stages.networks import checkpoint
from stages.params.pruning import Models
from tests.conftest import protopnet


def with_values(params, keep="all", **prune):
    changed = params.prune.model_copy(update={"criteria": ["lrp", "weight"], "steps": 3, "per_step": 0.2, **prune})
    return params.model_copy(update={"seeds": [0, 1], "prune": changed, "models": Models(keep=keep)})


def test_a_network_takes_what_its_file_takes(params, build, architecture, tmp_path):
    model = params.model.model_copy(update={"name": "resnet8"})
    params = with_values(params).model_copy(update={"model": model})
    checkpoint.save(tmp_path / "network.safetensors", build("resnet8"), architecture)
    whole = disk.expected(params.model_copy(update={"prune": params.prune.model_copy(update={"criteria": []})}))[0]
    assert whole / 2 == pytest.approx((tmp_path / "network.safetensors").stat().st_size, rel=0.05)


def test_steps_take_less_and_less_and_what_is_not_kept_is_not_counted(params):
    baselines = disk.expected(with_values(params, criteria=[]))[0]
    sizes = {keep: disk.expected(with_values(params, keep, unit="params")) for keep in ("all", "accepted", "last")}
    chains = 2 * baselines  # two criteria
    assert {every for every, _ in sizes.values()} == {round(baselines + chains * 2 * (0.8 + 0.6 + 0.4))}
    assert sizes["all"][0] == sizes["all"][1]
    assert sizes["accepted"][1] == round(baselines + chains * (0.8 + 0.6 + 0.4))
    assert sizes["last"][1] == round(baselines + chains * 0.4)
    masked = disk.expected(with_values(params, removal="mask"))[0]
    assert masked == round(baselines + chains * 2 * 3)
    assert disk.expected(with_values(params, "last"))[1] == round(baselines + chains * 0.4**2)  # of the filters


def test_the_papers_protocol_with_vgg16_takes_more_than_100_gb_unless_the_last_networks_alone_are_kept(params):
    five = ["lrp", "weight", "gradient", "taylor", "random"]
    prune = params.prune.model_copy(update={"criteria": five, "steps": 30, "per_step": 0.2 / 30, "unit": "filters"})
    data, model = params.data.model_copy(update={"image_size": 224}), params.model.model_copy(update={"name": "vgg16"})
    study = {"seeds": [0, 1, 2], "prune": prune, "data": data, "model": model}
    kept = [
        disk.expected(params.model_copy(update=study | {"models": Models(keep=keep)}), 1000) for keep in ("all", "last")
    ]
    assert kept[0][0] == pytest.approx(392e9, rel=0.05)  # of docs/cluster.md
    assert kept[1] == (kept[0][0], pytest.approx(6.8e9, rel=0.05))


def test_protopnets_take_what_their_files_take(params, tmp_path):
    network, architecture = protopnet(layer="layer2")
    checkpoint.save(tmp_path / "trained.safetensors", network, architecture)
    of_classes = {"per_class": 1, "layer": "layer2", "dimension": 8}
    study = params.prototypes.model_copy(
        update=of_classes | {"backbone": params.prototypes.backbone.model_copy(update={"criteria": []})}
    )
    model = params.model.model_copy(update={"name": "resnet8"})
    small = params.model_copy(update={"model": model, "prototypes": study, "seeds": [0, 1]})
    assert disk.of_protopnets(small) / 6 == pytest.approx((tmp_path / "trained.safetensors").stat().st_size, rel=0.1)
    none = study.model_copy(update={"per_class": 0})
    assert disk.of_protopnets(small.model_copy(update={"prototypes": none})) == 0


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", ["step1.pruned", "step1", "step2.pruned", "step2", "step3.pruned"]),
        ("accepted", ["step1", "step2"]),
        ("last", ["step2"]),  # step 3 is not finished, and starts from it
    ],
)
def test_only_networks_that_are_not_to_be_kept_are_deleted(tmp_path, keep, left):
    chain = tmp_path / "key/lrp/seed0"
    chain.mkdir(parents=True)
    for name in ("step1.pruned", "step1", "step2.pruned", "step2", "step3.pruned"):
        (chain / f"{name}.safetensors").write_bytes(b"12345")
    (chain / "step1.plan.json").write_text("{}")
    (chain / "step3.training").write_text("state")
    freed = disk.free(tmp_path, keep)
    assert freed == 5 * (5 - len(left))
    assert names(tmp_path) == sorted([*(f"{name}.safetensors" for name in left), "step1.plan.json", "step3.training"])


def test_files_are_counted_by_step(tmp_path):
    for name, size in {"a/step1.plan.json": 3, "b/step1.safetensors": 4, "b/step12.npz": 5, "seed0.csv": 6}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert disk.by_step(tmp_path) == {0: 6, 1: 7, 12: 5}
