"""What a network says to pictures, and why: probabilities, and a heat map of relevance beside each picture.

::

    python -m stages.predict --checkpoint models/pruned/lrp/seed0/step4.safetensors lesion.jpg

writes `lesion.heatmap.png`: the picture, and where relevance for a class comes from (red) or speaks against it (blue),
by the rules of `prune.scores.lrp`. With `--concepts layer4.1.conv2:7,31` also `lesion.concepts.png`: where relevance
through each of these channels comes from, and their share of that in the layer (Achtibat et al., 2023). A ProtoPNet
also says which prototypes a picture looks like; with `--data data/prepared`, where their images are,
`lesion.prototypes.png` shows it.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from stages import command, device
from stages.attribution.canonical import canonical
from stages.attribution.concepts import propagated
from stages.attribution.filters import TRUE_CLASS
from stages.attribution.heatmap import heat_maps
from stages.datasets import pictures, store
from stages.errors import InputError, naming, within
from stages.files import replacing
from stages.networks import checkpoint, projection
from stages.networks.architectures import named_channels
from stages.networks.likeness import explanation, likeness, maps_at
from stages.params import load
from stages.pruning.scoring import composite
from stages.reporting import montage

LEAST = 256  # pixels of the longer side of what is shown


def main() -> None:
    """Run the command."""
    parser = command.parser("stages.predict", __doc__, checkpoint="network of the study")
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    parser.add_argument("--class", dest="of_class", help="class to explain (default: the predicted one)")
    parser.add_argument(
        "--concepts", action="append", default=[], metavar="LAYER:CHANNELS", help="such as conv1:0,3; repeatable"
    )
    parser.add_argument("--data", type=Path, help="prepared data, to show the prototypes of a ProtoPNet")
    parser.add_argument("--folder", type=Path, help="of the heat maps (default: that of each picture)")
    arguments = parser.parse_args()
    settings = load(arguments.params).prune.scores.lrp
    network, architecture = checkpoint.load(arguments.checkpoint)
    classes = architecture.classes
    if arguments.of_class and arguments.of_class not in classes:
        raise InputError(f"--class: {arguments.of_class!r} is none of {', '.join(classes)}")
    if arguments.data and not architecture.prototypes:
        raise InputError(f"--data: {arguments.checkpoint} is no ProtoPNet; leave it out")
    if architecture.prototypes:
        with within(arguments.checkpoint):
            projection.refuse_unprojected(network, architecture.prototypes)
    concepts = named_channels(network, arguments.concepts, "--concepts")
    data = store.load(arguments.data) if arguments.data else None
    with within(arguments.data):
        rows = projection.source_rows(data, architecture.prototypes) if data else {}
    targets = [(arguments.folder or path.parent) / f"{path.stem}.heatmap.png" for path in arguments.pictures]
    if twice := next((target for target in targets if targets.count(target) > 1), None):
        raise InputError(f"{twice}: would be written for two pictures; name them differently, or use two --folder")
    shown = [pictures.central(pictures.decode(path), architecture.centre) for path in arguments.pictures]
    where = device.prepare(1)
    network.to(where)
    propagating = composite(settings, architecture, where)
    with naming(arguments.checkpoint):
        form = canonical(network)
    for path, picture, target in zip(arguments.pictures, shown, targets, strict=True):
        pixels = torch.from_numpy(np.array(pictures.square(picture, architecture.image_size)))
        raw = pixels.permute(2, 0, 1)[None].float().div(255).to(where)
        image = architecture.normalise(raw)
        with torch.no_grad():
            probabilities = network(image).double().softmax(1)[0]
        of_class = classes.index(arguments.of_class) if arguments.of_class else probabilities.argmax().item()
        label = torch.tensor([of_class], device=where)
        with naming(arguments.checkpoint):
            heat = heat_maps(network, image, label, TRUE_CLASS, propagating)[0]
        with naming(target), replacing(target) as temporary:
            beside(picture, heat.cpu().numpy()).save(temporary, format="png")
        print(path)
        for n in probabilities.argsort(descending=True).tolist():
            print(f"  {probabilities[n]:.4f}  {classes[n]}")
        print(f"  relevance for {classes[of_class]}: {target}")
        if architecture.prototypes:
            like = likeness(network, architecture, raw[0])
            told = explanation(like, network.last.weight.detach().cpu(), architecture, of_class)
            print("\n".join(f"  {in_words(part, told['explained'])}" for part in told["strongest"]))
            if data:
                of_prototypes = target.with_name(f"{path.stem}.prototypes.png")
                others = [data.images[rows[part["image"]]] for part in told["strongest"]]
                heats = maps_at(like.maps, told, architecture.image_size)
                figure = montage.this_looks_like_that(path.name, told, heats, pixels.numpy(), others)
                _save(figure, of_prototypes, "this looks like that")
        if concepts:
            conditions = max(map(len, concepts.values()))
            repeated = image.expand(conditions, -1, -1, -1), label.expand(conditions)
            with (
                naming(arguments.checkpoint),
                propagated(form, list(concepts), *repeated, TRUE_CLASS, propagating) as found,
            ):
                maps = found.captioned(concepts)
            figure = montage.concept_maps(pixels.numpy(), f"{classes[of_class]}: {path.name}", maps)
            _save(figure, target.with_name(f"{path.stem}.concepts.png"), "relevance of concepts for it")


def _save(figure: Figure, path: Path, what: str) -> None:
    with naming(path):
        montage.save(figure, path)
    print(f"  {what}: {path}")


def in_words(part: dict, explained: str) -> str:
    """Return one prototype of an explanation as a line of text."""
    left, top, right, bottom = part["box"]
    return (
        f"{part['contributions'][explained]:+.3f} for {explained}: similarity {part['similarity']:.2f} of the part at "
        f"{left}, {top} to {right}, {bottom} to prototype {part['prototype']} (of {part['of_class']}, from "
        f"{part['image']}), times {part['weight']:.2f}"
    )


def beside(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Return a picture and its heat map (H x W, stretched to the picture) side by side, small ones enlarged."""
    from matplotlib import colormaps

    scale = max(1, -(-LEAST // max(picture.size)))
    size = picture.width * scale, picture.height * scale
    both = Image.new("RGB", (2 * size[0], size[1]))
    both.paste(picture.resize(size, Image.Resampling.NEAREST))
    most = np.abs(heat).max() or 1.0
    colours = colormaps["bwr"](0.5 + 0.5 * heat / most, bytes=True)[..., :3]
    both.paste(Image.fromarray(colours).resize(size, Image.Resampling.NEAREST), (size[0], 0))
    return both


if __name__ == "__main__":
    command.run(main)
