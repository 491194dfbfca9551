"""Stage concepts: which channels of a network its decisions rely on, for which classes, where, and what makes them.

By hand::

    python -m stages.concepts --data data/prepared --checkpoint models/baseline/seed0.safetensors --folder concepts

writes `atlas.csv` (a row a layer, class and concept), `layers.csv` (what was conserved), `graphs.json`, and pictures:
`heatmaps/CLASS.png`, `references/LAYER.png` and `graphs/CLASS.svg`; of `concepts.chosen`, `chosen/image-ID.png`,
`chosen/references-LAYER.png` and `chosen/concept-LAYER-CHANNEL.svg` with its numbers as JSON; and the strategies of
classes, `strategies.json` and `strategies/CLASS.png`. The rules of relevance are those of `prune.scores.lrp`. The
folder is replaced as a whole.
"""

import difflib
import textwrap
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from torch import nn

from stages import command, device
from stages.attribution import strategies
from stages.attribution.atlas import LEFT_OUT, Atlas, Found, survey
from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph
from stages.attribution.concepts import Propagated, propagated, shares
from stages.attribution.decomposition import decompose
from stages.attribution.filters import TRUE_CLASS, positions
from stages.attribution.references import Highest, fields
from stages.attribution.strategies import Strategies
from stages.datasets import store
from stages.datasets.store import Prepared
from stages.errors import InputError, naming
from stages.files import replacing, replacing_folder, write_json, write_rows
from stages.names import ALL_CLASSES, file_name
from stages.networks import checkpoint
from stages.networks.architectures import named_channels, no_layer, prunable_layers
from stages.networks.checkpoint import Architecture
from stages.params import load
from stages.params.concepts import Concepts
from stages.pruning.scoring import composite, masks_of
from stages.reporting import montage, plots

PICTURES = {"heatmaps", "references", "graphs", "chosen", "strategies"}
TABLES = {"atlas.csv", "layers.csv", "graphs.json", "strategies.json"}
OF_CLASS = 3  # concepts of each class whose reference images are shown, in the last layer
NAMED = 6  # images in a title
WIDTH = 20  # letters in a line above a picture
WIDTHS = [3, 2, 1]  # sub-concepts of a concept, by layers down
SPREAD = ["effective_concepts", "effective_low", "effective_high"]  # columns of layers.csv
INSIDE = ["inside", "inside_low", "inside_high", "area"]  # and where a region is asked about


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.concepts", __doc__, data="prepared data", checkpoint="network to look at", folder="to write to"
    )
    arguments = parser.parse_args()
    params = load(arguments.params)
    settings = params.concepts
    log = command.logger("concepts")
    where = device.prepare(settings.threads)
    data = store.load(arguments.data)
    network, architecture = checkpoint.load(arguments.checkpoint)
    if architecture.classes != data.classes or architecture.image_size != data.description["image_size"]:
        raise InputError(f"{arguments.checkpoint}: its classes or image size are not those of {arguments.data}")
    layers = prunable_layers(network, settings.layers.include, settings.layers.exclude, "concepts.layers")
    chosen = named_channels(network, settings.chosen.concepts, "concepts.chosen.concepts")
    if outside := next((layer for layer in chosen if layer not in layers[1:]), None):
        raise InputError(f"concepts.chosen.concepts: {outside} is the first of concepts.layers, or none of them")
    with naming(arguments.checkpoint):
        form = canonical(network.to(where))
        propagating = composite(params.prune.scores.lrp, architecture, where)
        seen = Seen(form, layers, data, architecture, settings, propagating, where)
        lost = seen.survey()
    if not any(seen.right):
        raise InputError(f"{arguments.checkpoint}: gets no image of the split {settings.split} right")
    for name, right in zip(data.classes, seen.right, strict=True):
        if not right:
            log.warning("no image of class %s is classified correctly; the atlas has no rows for it", name)
    flagged = [layer for layer in layers if not lost[layer] <= settings.lost]  # also where it is not a number
    for layer in flagged:
        log.warning(LEFT_OUT, layer, lost[layer])
    reported = [layer for layer in layers if layer not in flagged]
    if not reported:
        raise InputError(f"concepts.lost: {settings.lost}: every layer loses more; prune.scores.lrp names other rules")
    with replacing_folder(arguments.folder, PICTURES, TABLES) as folder:
        for pictures in PICTURES:
            (folder / pictures).mkdir()
        write_rows(folder / "layers.csv", seen.layer_rows(lost, flagged))
        rows = pd.DataFrame(seen.rows(reported))
        with replacing(folder / "atlas.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
        shown = _spread(reported, settings.pictured_layers)
        _picture(seen, rows, shown, settings, folder)
        chosen = {layer: channels for layer, channels in chosen.items() if layer in reported}
        for concept in _picture_chosen(seen, rows, shown, chosen, settings, folder):
            log.warning("no graph of %s: none of its relevance comes from layers below that conserve it", concept)
        if seen.telling not in reported:
            log.warning("no strategies are told: %s is left out", seen.telling)
        for name in _tell_strategies(seen, sorted(seen.told) if seen.telling in reported else [], settings, folder):
            log.warning("no strategies of class %s: its correctly classified images are too few, or all alike", name)
    log.info("%d layers of %d, %d images: %s", len(reported), len(layers), sum(seen.right), arguments.folder)


def _picture(seen: "Seen", rows: pd.DataFrame, layers: list[str], settings: Concepts, folder: Path) -> None:
    """Write heat maps, graphs and reference images of the first concepts of some layers."""
    data, graphs = seen.data, {}
    for label, numbers in seen.examples().items():
        name = data.classes[label]
        file = file_name(name)
        top = {layer: _top(rows, layer, name, settings.pictured_concepts) for layer in layers}
        montage.save(seen.heat_maps(numbers[0], top), folder / "heatmaps" / f"{file}.png")
        root = layers[-1], top[layers[-1]][0]
        with seen.propagated(numbers, layers) as found:
            title = f"{name}, in {seen.images(numbers)}"
            graphs[name] = _graph(found, root, layers, title, folder / "graphs" / f"{file}.svg")
    write_json(folder / "graphs.json", graphs)
    for layer in layers:
        first = {concept: "" for concept in _top(rows, layer, ALL_CLASSES, settings.pictured_concepts)}
        for name in data.classes if layer == layers[-1] else []:
            first |= {concept: f"{name}\n" for concept in _top(rows, layer, name, OF_CLASS) if concept not in first}
        montage.save(seen.sheet(layer, first), folder / "references" / f"{layer}.png")


def _picture_chosen(
    seen: "Seen", rows: pd.DataFrame, layers: list[str], chosen: dict[str, list[int]], settings: Concepts, folder: Path
) -> list[str]:
    """Draw what params.yaml names: heat maps of images, graphs and reference images of concepts; return those bare.

    Bare is a concept that has no graph.
    """
    for number in seen.chosen:
        row = seen.data.index.iloc[number]
        name = seen.data.classes[row["label"]] if seen.right[row["label"]] else ALL_CLASSES
        top = {layer: _top(rows, layer, name, settings.pictured_concepts) for layer in layers}
        file = folder / "chosen" / f"image-{file_name(row['image_id'])}.png"
        montage.save(seen.heat_maps(number, top), file)
    by_turns = zip_longest(*seen.examples().values())  # of all classes, should there be too many
    numbers = [number for turn in by_turns for number in turn if number is not None][: settings.batch_size]
    bare = []
    for layer, channels in chosen.items():
        down = [name for name in seen.layers if name in layers or name == layer]
        with seen.propagated(numbers, down) as found:
            for channel in channels:
                file = folder / "chosen" / f"concept-{layer}-{channel}.svg"
                title = f"{channel} of {layer}, in {seen.images(numbers)}"
                edges = _graph(found, (layer, channel), down, title, file)
                write_json(file.with_suffix(".json"), edges)
                bare += [] if edges else [f"{layer}:{channel}"]
        figure = seen.sheet(layer, dict.fromkeys(channels, ""))
        montage.save(figure, folder / "chosen" / f"references-{layer}.png")
    return bare


def _graph(found: Propagated, root: tuple[str, int], layers: list[str], title: str, file: Path) -> list[dict]:
    """Draw what a concept is made of in some images, if anything, and return it: sub-concepts and shares."""
    edges = decompose(found, root, layers, WIDTHS)
    if edges:
        drawn = [(edge.above, edge.below, edge.share) for edge in edges]
        plots.save(plots.concept_graph(drawn, layers, title), file)
    return [{"above": list(edge.above), "below": list(edge.below), "share": round(edge.share, 6)} for edge in edges]


def _tell_strategies(seen: "Seen", labels: list[int], settings: Concepts, folder: Path) -> list[str]:
    """Write the strategies of classes: their images, concepts and typical images; and the class's outliers.

    Returns the classes whose images are too few or all alike.
    """
    told, bare = {}, []
    for label in labels:
        name = seen.data.classes[label]
        try:
            found = strategies.find(seen.vectors(label)[1], settings.strategies.most)
        except ValueError:
            bare.append(name)
            continue
        told[name], pictures = seen.strategies(label, found)
        figure = montage.picture_rows(pictures, settings.references)
        montage.save(figure, folder / "strategies" / f"{file_name(name)}.png")
    write_json(folder / "strategies.json", told)
    return bare


class Seen:
    """A network looking at the images of a split."""

    def __init__(
        self,
        form: nn.Module,
        layers: list[str],
        data: Prepared,
        architecture: Architecture,
        settings: Concepts,
        composite: ByGraph,
        where: torch.device,
    ):
        self.form, self.layers, self.data, self.architecture = form, layers, data, architecture
        self.settings, self.composite, self.where = settings, composite, where
        self.atlas = Atlas(len(data.classes), settings.resamples)
        self.by_relevance, self.by_activation = Highest(settings.references), Highest(settings.references)
        self.right = [0] * len(data.classes)
        self.first: dict[int, list[int]] = {}  # images of a class that are right
        self.numbers = data.rows(settings.split)
        self.telling = settings.strategies.layer or layers[-1]  # the layer that tells strategies
        if self.telling not in layers:
            raise InputError(f"concepts.strategies.layer: {no_layer(self.telling, layers)}")
        self.told: dict[int, list[tuple[int, np.ndarray]]] = {}  # images of a class, and their shares in that layer
        self.chosen = [self._number(image) for image in settings.chosen.images]

    def _number(self, image: str) -> int:
        """Return the number of an image of the split."""
        images = self.data.index["image_id"].iloc[self.numbers].astype(str)
        found = self.numbers[images == image]
        if not len(found):
            near = difflib.get_close_matches(image, images, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its first is {images.iloc[0]}"
            raise InputError(f"concepts.chosen.images: {image!r} is none of the split {self.settings.split}; {hint}")
        return int(found[0])

    def survey(self) -> dict[str, float]:
        """Look at all images once; return what is lost by layer."""
        groups = self.data.index["group"].factorize()[0]
        parts = torch.from_numpy(self.numbers).split(self.settings.batch_size)
        numbers = iter(parts)

        def batches():
            for part in parts:
                images, labels = self.data.batch(part.numpy())
                masks = self._masks(part.numpy())
                yield self.architecture.normalise(images.to(self.where)), labels.to(self.where), *masks

        def take(found: dict[str, Found], labels: torch.Tensor, right: torch.Tensor) -> None:
            chosen = next(numbers)[right.cpu()]
            self.atlas.add(found, labels, groups[chosen.numpy()].tolist())
            self.by_relevance.add({layer: shares(each.relevance) for layer, each in found.items()}, chosen)
            self.by_activation.add({layer: each.activation for layer, each in found.items()}, chosen)
            vectors = shares(found[self.telling].relevance).cpu().numpy()
            for number, label, vector in zip(chosen.tolist(), labels.tolist(), vectors, strict=True):
                self.right[label] += 1
                if len(self.first.setdefault(label, [])) < self.settings.examples:
                    self.first[label].append(number)
                if len(self.told.setdefault(label, [])) < self.settings.strategies.images:
                    self.told[label].append((number, vector))

        return survey(self.form, self.layers, batches(), self.composite, take)

    def _masks(self, numbers: np.ndarray) -> list[torch.Tensor]:
        """Return, in a list, the region of each image, N x H x W in [0, 1]; an empty list where none is asked for."""
        asked = self.settings.region
        if asked is None:
            return []
        return [masks_of(asked, self.data, numbers, self.architecture.image_size, "concepts.region").to(self.where)]

    def rows(self, layers: list[str]) -> list[dict]:
        """Return the rows of the atlas: the first concepts of each layer and class, with all that tie for it."""
        labels = {ALL_CLASSES: None} | {name: n for n, name in enumerate(self.data.classes) if self.right[n]}
        rows = []
        for layer in layers:
            for name, label in labels.items():
                entry = self.atlas.entry(layer, label)
                columns = {"share": entry.share, "low": entry.low, "high": entry.high, "votes": entry.votes}
                columns["activation"] = entry.activation
                of_layer = {"images": entry.images} | ({} if entry.area is None else {"area": entry.area})
                if entry.inside is not None:
                    columns |= {what: getattr(entry, what) for what in ("inside", "inside_low", "inside_high")}
                for concept in entry.share.argsort(descending=True, stable=True).tolist():
                    if entry.rank[concept] > self.settings.kept:
                        break
                    row = {"layer": layer, "class": name, "concept": concept, "rank": int(entry.rank[concept])}
                    rows.append(row | of_layer | {key: values[concept].item() for key, values in columns.items()})
        return rows

    def layer_rows(self, lost: dict[str, float], flagged: list[str]) -> list[dict]:
        """Return what is known of each layer: what is conserved, how many concepts share it, and where it lies."""
        rows = []
        for layer in self.layers:
            share = self.atlas.entry(layer).share.abs()
            row = {"layer": layer, "concepts": len(share), "lost": lost[layer], "reported": layer not in flagged}
            reported = dict.fromkeys([*SPREAD, "largest_share", *(INSIDE if self.settings.region else [])])
            if layer not in flagged:
                reported |= dict(zip(SPREAD, self.atlas.spread(layer), strict=True))
                reported["largest_share"] = share.max().item()
                if found := self.atlas.region(layer):
                    reported |= dict(zip(INSIDE, found, strict=True))
            rows.append(row | reported)
        return rows

    def examples(self) -> dict[int, list[int]]:
        """Return the first images of each class that are right, by the class's number."""
        return dict(sorted(self.first.items()))

    def propagated(self, numbers: list[int], layers: list[str]):
        """Propagate relevance for some images; see `stages.attribution.concepts.propagated`."""
        images, labels = self.data.batch(np.array(numbers))
        images = self.architecture.normalise(images.to(self.where))
        return propagated(self.form, layers, images, labels.to(self.where), TRUE_CLASS, self.composite)

    def heat_maps(self, number: int, concepts: dict[str, list[int]]) -> Figure:
        """Return an image over the conditional heat maps, a row a layer, of concepts by layer."""
        with self.propagated([number] * max(map(len, concepts.values())), list(concepts)) as found:
            maps = found.captioned(concepts)
        row = self.data.index.iloc[number]
        return montage.concept_maps(
            self.data.images[number], f"{self.data.classes[row['label']]}: {row['image_id']}", maps
        )

    def vectors(self, label: int) -> tuple[list[int], np.ndarray]:
        """Return images of a class and the shares of relevance, N x C, of the concepts that tell its strategies."""
        numbers, vectors = zip(*self.told[label], strict=True)
        return list(numbers), np.stack(vectors)

    def strategies(self, label: int, found: Strategies) -> tuple[dict, dict[str, list]]:
        """Return what there is to say of a class's strategies, and typical images and outliers with captions."""
        numbers, vectors = self.vectors(label)
        entries, pictures = [], {}

        def shown(images: np.ndarray, values: np.ndarray) -> list[tuple[np.ndarray, str]]:
            return [(self.data.images[numbers[n]], self._caption(numbers[n], values[n])) for n in images]

        for number in range(found.strategy.max() + 1):
            members = found.typical(number)
            share, in_class = vectors[members].mean(0), vectors.mean(0)
            telling = share if len(members) == len(vectors) else share - in_class
            concepts = telling.argsort(kind="stable")[::-1][: self.settings.pictured_concepts]
            typical = members[: self.settings.references]
            entries.append(
                {
                    "images": len(members),
                    "typical": [self.data.index["image_id"].iloc[numbers[n]] for n in typical],
                    "concepts": concepts.tolist(),
                    "share": share[concepts].astype(float).round(6).tolist(),
                    "share_in_class": in_class[concepts].astype(float).round(6).tolist(),
                }
            )
            pictures[f"{number + 1}: {len(members)} of {len(vectors)}"] = shown(typical, found.distance)
        odd = found.outliers()[: self.settings.references]
        pictures["outliers"] = shown(odd, found.log_likelihood)
        outliers = [self.data.index["image_id"].iloc[numbers[n]] for n in odd]
        said = {"layer": self.telling, "images": len(vectors), "strategies": entries, "outliers": outliers}
        return said, pictures

    def sheet(self, layer: str, concepts: dict[int, str]) -> Figure:
        """Return a contact sheet: for each concept its RelMax and its ActMax images, cropped to what it sees.

        What is said of a concept stands before its number.
        """
        rows = {}
        for concept, words in concepts.items():
            for kind, highest in (("RelMax", self.by_relevance), ("ActMax", self.by_activation)):
                numbers, values = highest.of(layer, concept)
                numbers, values = numbers[values > 0], values[values > 0]
                rows[f"{words}{concept} {kind}"] = []
                if not len(numbers):
                    continue
                with self.propagated(numbers.tolist(), [layer]) as found:
                    relevant = kind == "RelMax"
                    at = (found.relevance if relevant else found.outputs)[layer].detach()
                    where = positions(at)[:, concept].argmax(1)
                    parts = fields(found, layer, concept, where, None if relevant else torch.ones_like(at))
                rows[f"{words}{concept} {kind}"] = [
                    (_masked(self.data.images[number], part, heat.cpu().numpy()), self._caption(number, value))
                    for number, value, (part, heat) in zip(numbers.tolist(), values.tolist(), parts, strict=True)
                ]
        return montage.picture_rows(rows, self.settings.references)

    def image(self, number: int) -> str:
        """Return the last part of an image's id, as its class says where that lies."""
        return str(self.data.index["image_id"].iloc[number]).rpartition("/")[2]

    def images(self, numbers: list[int]) -> str:
        """Return the first of some images, by their ids, and how many more there are."""
        more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
        return ", ".join(map(self.image, numbers[:NAMED])) + more

    def _caption(self, number: int, value: float) -> str:
        name = textwrap.fill(self.image(number), WIDTH)
        return f"{name}\n{self.data.classes[self.data.index['label'].iloc[number]]}\n{value:.3g}"


def _masked(image: np.ndarray, part: tuple[slice, slice], heat: np.ndarray) -> np.ndarray:
    """Return a part of an image, darkened where the relevance, blurred, has less than a tenth of its largest value."""
    size = gaussian_filter(np.abs(heat), 1.0)[part]
    light = np.where(size > 0.1 * size.max(), 1.0, 0.4)[..., None] if size.max() else 1.0
    return (image[part] * light).astype(np.uint8)


def _top(rows: pd.DataFrame, layer: str, name: str, count: int) -> list[int]:
    chosen = rows[(rows["layer"] == layer) & (rows["class"] == name)]
    return chosen["concept"].head(count).tolist()


def _spread(layers: list[str], count: int) -> list[str]:
    """Return at most `count` of the layers, from the first to the last."""
    if len(layers) <= count:
        return layers
    return [layers[n] for n in np.unique(np.linspace(0, len(layers) - 1, count).round().astype(int))]


if __name__ == "__main__":
    command.run(main)
