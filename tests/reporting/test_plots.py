import re

import pandas as pd
import pytest
from matplotlib.figure import Figure

from stages.reporting import plots


def line(axes, name):
    (found,) = [each for each in axes.lines if each.get_label() == name]
    return found.get_xdata(), found.get_ydata()


@pytest.mark.parametrize("masked", [False, True])
def test_times_are_shares_of_the_unpruned_networks_and_stand_beside_macs(masked):
    rows = [["baseline", 0, 0, "baseline", 100.0, 0.9], ["lrp", 0, 1, "pruned", 50.0, 0.1]]
    rows += [["lrp", 0, 1, "finetuned", 50.0, 0.8]]
    columns = ["criterion", "seed", "step", "phase", "macs", "balanced_accuracy"]
    table = pd.DataFrame(rows, columns=columns).assign(filters=1.0, params=1.0)
    if masked:
        sizes = {f"effective_{name}": table[name] for name in ("filters", "params", "macs")}
        table = table.assign(macs=100.0, **sizes)
    latency = pd.DataFrame(
        [["baseline", 0, 0, 1, 10.0], ["baseline", 0, 0, 32, 40.0], ["lrp", 0, 1, 1, 4.0], ["lrp", 0, 1, 32, 50.0]],
        columns=["criterion", "seed", "step", "batch", "milliseconds"],
    )
    above_one, above_many, below_one, below_many = plots.time_curves(table, latency, "balanced_accuracy").axes
    assert line(above_one, "lrp") == (pytest.approx([1.0, 0.4]), pytest.approx([0.9, 0.8]))
    assert line(above_many, "lrp") == (pytest.approx([1.0, 1.25]), pytest.approx([0.9, 0.8]))
    assert above_many.get_xlim()[0] > 1.25  # slower than the unpruned network, and not cut off
    assert line(below_one, "lrp") == (pytest.approx([1.0, 0.4]), pytest.approx([1.0, 0.5]))
    assert below_many.get_xlabel() == "time left, batch of 32"
    networks = pd.DataFrame(
        [["classifier", 100.0, 0.9], ["trained", 110.0, 0.85]], columns=["network", "macs", "balanced_accuracy"]
    )
    (axes,) = plots.prototype_points(table, networks, {"trained": "ProtoPNet"}).axes
    assert line(axes, "lrp") == (pytest.approx([1.0, 0.5]), pytest.approx([0.9, 0.8]))
    assert line(axes, "ProtoPNet") == (pytest.approx([1.1]), pytest.approx([0.85]))


def test_measured_speed_stands_beside_what_macs_promise():
    table = pd.DataFrame(
        [["lrp", "PyTorch", 1, 2.2, 2.5], ["lrp", "onnxruntime", 1, 3.4, 2.5], ["random", "PyTorch", 1, 1.5, 2.0]],
        columns=["criterion", "engine", "batch", "speed_up", "macs_ratio"],
    )
    of_lrp, of_random = plots.speed_ups(table).axes
    assert [bar.get_height() for bar in of_lrp.patches] == [2.2, 3.4]
    assert [text.get_text() for text in of_lrp.get_xticklabels()] == ["PyTorch\nbatch of 1", "onnxruntime\nbatch of 1"]
    assert [bar.get_height() for bar in of_random.patches] == [1.5]
    for axes, promised in ((of_lrp, 2.5), (of_random, 2.0)):
        assert set(line(axes, "MACs, times fewer")[1]) == {promised}
        assert set(line(axes, "unpruned")[1]) == {1}


def test_the_fate_of_concepts_is_drawn_in_the_networks_order_and_no_panel_is_empty():
    rows = [["lrp", 0, "last"], ["lrp", 1, "first"], ["lrp", 1, "last"], ["crp", 0, "last"], ["taylor", 0, "last"]]
    changes = pd.DataFrame([*rows, ["random", 1, "last"]], columns=["criterion", "seed", "layer"])
    changes = changes.assign(share_kept=[0.4, 0.9, 0.6, 0.1, 0.2, 0.3], share_moved=0.0, share_lost=0.1)
    figure = plots.concept_changes(changes, ["first", "left out", "last"])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["lrp", "crp", "taylor", "random"]
    kept = [[bar.get_width() for bar in axes.containers[0]] for axes in shown]
    assert kept == [pytest.approx(each) for each in ([90, 50], [0, 10], [0, 20], [0, 30])]


def test_a_saved_figure_is_laid_out_and_cut_as_matplotlib_does_it(tmp_path):
    def drawn():
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], label="a")
        axes.set_ylabel("a label of two\nlines")
        axes.text(1.3, 0.5, "beside the axes", transform=axes.transAxes)
        figure.legend(loc="outside lower center")
        return figure

    def boxes(path):
        text = path.read_text()
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()
        frame = re.search(r'<g id="patch_2">\s*<path d="([^"]+)"', text)[1]
        return [float(number) for number in (*size, *re.findall(r"[\d.]+", frame))]

    plots.save(drawn(), tmp_path / "saved.svg")
    drawn().savefig(tmp_path / "own.svg", bbox_inches="tight")
    assert boxes(tmp_path / "saved.svg") == pytest.approx(boxes(tmp_path / "own.svg"), abs=3)  # points


def chains(images):
    rows = [["baseline", 0, 0, "baseline", 100.0, 0.9]]
    for criterion, tuned in (("lrp", 0.8), ("random", 0.6)):
        rows += [[criterion, 0, 1, "pruned", 40.0, 0.3], [criterion, 0, 1, "finetuned", 40.0, tuned - 0.01 * images]]
    columns = ["criterion", "seed", "step", "phase", "macs", "balanced_accuracy"]
    sizes = {"filters": 10.0, "params": 20.0, "images_per_class": images}
    return pd.DataFrame(rows, columns=columns).assign(**sizes)


def test_the_unpruned_network_and_random_removal_are_in_every_panel_of_a_metric():
    figure = plots.metric_curves(chains(0), "balanced_accuracy")
    assert [axes.get_xlabel() for axes in figure.axes] == ["MACs left", "parameters left", "filters left"] * 2
    for axes, tuned in zip(figure.axes, [False] * 3 + [True] * 3, strict=True):
        assert set(line(axes, "unpruned")[1]) == {0.9}
        assert line(axes, "random")[1] == pytest.approx([0.9, 0.6 if tuned else 0.3])
    assert line(figure.axes[0], "lrp") == (pytest.approx([1, 0.4]), pytest.approx([0.9, 0.3]))
    few = plots.few_shot_curves(pd.concat([chains(10), chains(1)]), "balanced_accuracy").axes
    assert [axes.get_title().split("\n")[0] for axes in few] == ["1 image a class", "10 images a class"] * 2
    assert [line(axes, "random")[1][1] for axes in few] == pytest.approx([0.3, 0.3, 0.59, 0.5])
    assert all(set(line(axes, "unpruned")[1]) == {0.9} for axes in few)


def test_the_range_of_seeds_is_shaded_and_named():
    def legend(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    one, other = chains(0), chains(10).assign(seed=1)  # tuned: 0.8 and 0.7 for lrp
    figure = plots.metric_curves(pd.concat([one, other]), "balanced_accuracy")
    assert legend(figure)[-1] == "lowest to highest seed"
    band = figure.axes[3].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.7, 0.8))
    assert legend(plots.metric_curves(one, "balanced_accuracy")) == ["unpruned", "lrp", "random"]


def test_heat_maps_of_the_unpruned_network_are_as_similar_as_can_be():
    rows = pd.DataFrame([["lrp", 0, 1, 0.8], ["lrp", 1, 1, 0.6], ["lrp", 0, 2, 0.5]])
    rows.columns = ["criterion", "seed", "step", "cosine"]
    (axes,) = plots.drift_curves(rows, {"cosine": "cosine similarity"}).axes
    assert line(axes, "lrp") == (pytest.approx([0, 1, 2]), pytest.approx([1, 0.7, 0.5]))
    assert set(line(axes, "unpruned")[1]) == {1}


def test_training_is_drawn_by_seed_and_fine_tuning_one_step_after_another():
    rows = [["baseline", 0, 0, 1, 2.0, 1.9, 0.3], ["baseline", 0, 0, 2, 1.5, 1.6, 0.5]]
    rows += [["lrp", seed, step, epoch, 1.0, 1.0, 0.1 * step + 0.01 * epoch + 0.02 * seed]
             for seed in (0, 1) for step in (1, 2) for epoch in (1, 2)]  # fmt: skip
    columns = ["criterion", "seed", "step", "epoch", "train_loss", "val_loss", "val_accuracy"]
    losses, accuracies, tuned = plots.training_curves(pd.DataFrame(rows, columns=columns)).axes
    assert line(losses, "training, seed 0")[1] == pytest.approx([2.0, 1.5])
    assert line(losses, "validation, seed 0")[1] == pytest.approx([1.9, 1.6])
    assert line(accuracies, "seed 0")[1] == pytest.approx([0.3, 0.5])
    assert line(tuned, "lrp") == (pytest.approx([1, 2, 3, 4]), pytest.approx([0.12, 0.13, 0.22, 0.23]))


def test_criteria_are_told_apart_and_random_is_dashed():
    names = [f"criterion{number}" for number in range(21)]
    styles = plots.styles([*names[:3], "random", *names[4:]])
    assert len({tuple(style.values()) for style in styles.values()}) == 21
    assert [name for name, style in styles.items() if style["linestyle"] == "--"] == ["random"]
