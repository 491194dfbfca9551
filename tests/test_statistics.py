import numpy as np
import pandas as pd
import pytest

from stages import chains, statistics
from stages.errors import InputError
from stages.reporting import comparison


def predictions(folder, criterion, seed, steps, images=("a", "b", "c")):
    """Write predictions of two classes; step n has the last n images wrong after fine-tuning, all after the cut."""
    rows = []
    for step, phase in steps:
        wrong = {"baseline": 0, "pruned": len(images), "finetuned": step}[phase]
        for position, image in enumerate(images):
            right = position < len(images) - wrong
            label = position % 2
            rows.append([step, phase, image, label, *((0.9, 0.1) if right == (label == 0) else (0.1, 0.9))])
    file = folder / criterion / f"seed{seed}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = ["step", "phase", "image_id", "label", "probability_no", "probability_yes"]
    pd.DataFrame(rows, columns=columns).to_parquet(file)
    return file


CHAIN = [(1, "pruned"), (1, "finetuned"), (2, "pruned"), (2, "finetuned")]


@pytest.fixture
def files(tmp_path):
    return [predictions(tmp_path, "baseline", 7, [(0, "baseline")]), predictions(tmp_path, "lrp", 7, CHAIN)]


@pytest.fixture
def sizes():
    table = pd.DataFrame(
        [["baseline", 7, 0, "baseline", 100], ["lrp", 7, 1, "pruned", 60], ["lrp", 7, 1, "finetuned", 60]]
        + [["lrp", 7, 2, "pruned", 30], ["lrp", 7, 2, "finetuned", 30]],
        columns=["criterion", "seed", "step", "phase", "macs"],
    ).assign(filters=lambda rows: rows["macs"], params=lambda rows: rows["macs"])
    latency = pd.DataFrame(
        [["baseline", 7, 0, 1, 4.0], ["lrp", 7, 1, 1, 3.0], ["lrp", 7, 2, 1, 2.0]],
        columns=["criterion", "seed", "step", "batch", "milliseconds"],
    )
    return chains.shares_left(table, latency)


def test_sizes_are_shares_of_the_unpruned_network(sizes):
    assert sizes.loc[("lrp", 7, 2)].to_dict() == {"filters": 0.3, "params": 0.3, "macs": 0.3, "latency_1": 0.5}
    assert (sizes.loc[("baseline", 7, 0)] == 1).all()


def test_what_is_masked_is_not_left():
    table = pd.DataFrame(
        [["baseline", 0, 0, "baseline", 10, 10], ["lrp", 0, 1, "finetuned", 10, 4]],
        columns=["criterion", "seed", "step", "phase", "macs", "effective_macs"],
    )
    table = table.assign(filters=10, params=10)
    assert chains.shares_left(table).loc[("lrp", 0, 1)].to_dict() == {"filters": 1, "params": 1, "macs": 0.4}


def test_a_chain_starts_at_the_unpruned_network(files, sizes):
    correct, labels, majority = chains.answers(files)
    assert labels.tolist() == [0, 1, 0]
    assert majority.name == "always no" and majority["accuracy"] == pytest.approx(2 / 3)
    chain = chains.assemble(sizes, correct, "finetuned")["lrp", 7]
    assert chain.correct.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    assert chain.left["macs"] == pytest.approx([1, 0.6, 0.3])
    assert not chains.assemble(sizes, correct, "pruned")["lrp", 7].correct[1:].any()


def test_predictions_of_other_images_are_refused(tmp_path, files):
    files.append(predictions(tmp_path, "weight", 7, CHAIN, images=("a", "c", "b")))
    with pytest.raises(InputError, match="weight/seed7.parquet: step 1 pruned: not the images of .*baseline"):
        chains.answers(files)


def test_one_seed_has_no_interval_over_seeds(files, sizes):
    correct, labels, _ = chains.answers(files)
    found = comparison.levels(chains.assemble(sizes, correct, "finetuned"), labels, "latency_1", [0.75])
    assert found["mean"].tolist() == pytest.approx([2 / 3, 3 / 4])  # one class half right, the other all
    assert np.isnan(found["low"]).all()


def test_the_page_leaves_out_what_there_is_nothing_to_say_of(files, sizes):
    correct, labels, majority = chains.answers(files)
    levels = comparison.levels(chains.assemble(sizes, correct, "finetuned"), labels, "macs", [0.6]).assign(
        phase="finetuned"
    )
    nothing = pd.DataFrame(columns=[*comparison.PAIRS, "phase"])
    text = statistics.page(levels, nothing, pd.DataFrame(), majority)
    assert "| always no | 0.5000, -0.5000 |\n| lrp | 0.7500, -0.2500 |" in text and text.count("\n\n") == 1


def test_a_file_that_holds_no_predictions_is_named(tmp_path):
    (tmp_path / "seed0.parquet").write_text("nothing")
    with pytest.raises(InputError, match="seed0.parquet: not predictions of `stages.evaluate`"):
        chains.answers([tmp_path / "seed0.parquet"])
