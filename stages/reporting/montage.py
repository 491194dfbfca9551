"""Figures made of pictures: images, heat maps, prototypes and concepts, as PNG."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stages.files import replacing
from stages.reporting.plots import COLOURS


def save(figure: Figure, path: Path) -> None:
    """Write a figure of pictures as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def picture_rows(rows: dict[str, list[tuple[np.ndarray, str]]], columns: int) -> Figure:
    """Return pictures with a caption above each, a row a name.

    Parameters
    ----------
    rows : dict
        Name to (picture, uint8, H x W x 3; caption of a few lines), at most `columns`.
    """
    figure = Figure(figsize=(1.3 * columns + 0.4, 0.4 + 1.85 * max(1, len(rows))), layout="constrained")
    panels = figure.subplots(max(1, len(rows)), columns, squeeze=False)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, (name, pictures) in zip(panels, rows.items(), strict=False):
        row[0].set_ylabel(name if pictures else f"{name}: none")
        for axes, (picture, caption) in zip(row, pictures, strict=False):
            axes.imshow(picture)
            axes.set_title(caption, fontsize=7)
    return figure


def heat_map_rows(images: list[np.ndarray], names: list[str], maps: dict[str, np.ndarray]) -> Figure:
    """Return images, a row each, beside their heat maps in one colour scale a map: red for the class, blue against it.

    Parameters
    ----------
    images : list of uint8 arrays, H x W x 3
    names : list of str
        Of their classes.
    maps : dict
        Title of a column to heat maps, N x H x W.
    """
    columns = 1 + len(maps)
    figure = Figure(figsize=(1.25 * columns + 1, 1.25 * len(images) + 0.4), layout="constrained")
    panels = figure.subplots(len(images), columns, squeeze=False)
    for row, axes in enumerate(panels):
        axes[0].imshow(images[row])
        axes[0].set_ylabel(names[row])
        for place, each in zip(axes[1:], maps.values(), strict=True):
            most = np.abs(each[row]).max() or 1.0
            shown = place.imshow(each[row] / most, vmin=-1, vmax=1, cmap="bwr")
        for place in axes:
            place.set_xticks([])
            place.set_yticks([])
    for place, title in zip(panels[0], ["image", *maps], strict=True):
        place.set_title(title)
    bar = figure.colorbar(shown, ax=panels, ticks=[-1, 0, 1], shrink=0.5)
    bar.set_label("share of the largest relevance")
    return figure


def boxed(axes: Axes, image: np.ndarray, box: list[int], heat: np.ndarray | None = None, most: float = 1.0):
    """Draw an image, perhaps with a heat map over it, and a box (left, top, right, bottom in pixels)."""
    axes.set(xticks=[], yticks=[])
    axes.imshow(image)
    shown = None if heat is None else axes.imshow(heat, vmin=0, vmax=most, cmap="viridis", alpha=0.65)
    left, top, right, bottom = box
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=COLOURS[4], lw=1.5))
    return shown


def prototype_sheet(title: str, prototypes: list[dict]) -> Figure:
    """Return prototypes in the images they come from: the box of each above where it is similar to its image.

    Parameters
    ----------
    prototypes : list of dict
        image (uint8, H x W x 3), box, heat (H x W, similarity), caption.
    """
    figure = Figure(figsize=(1.3 * len(prototypes) + 0.9, 3.4), layout="constrained")
    panels = figure.subplots(2, len(prototypes), squeeze=False)
    most = max(each["heat"].max() for each in prototypes)
    for (above, below), each in zip(panels.T, prototypes, strict=True):
        boxed(above, each["image"], each["box"])
        above.set_title(each["caption"], fontsize=6)
        shown = boxed(below, each["image"], each["box"], each["heat"], most)
    figure.colorbar(shown, ax=panels, shrink=0.9).set_label("similarity")
    figure.suptitle(title)
    return figure


def this_looks_like_that(
    title: str, told: dict, heats: list[np.ndarray], image: np.ndarray, others: list[np.ndarray]
) -> Figure:
    """Return why an image is called so: a row a prototype, its box in the image, and in its own.

    Parameters
    ----------
    told : dict
        Of `networks.likeness.explanation`.
    heats : list of arrays, H x W
        Similarity of the image to each of the strongest prototypes.
    image : uint8 array, H x W x 3
    others : list of uint8 arrays, H x W x 3
        The images of these prototypes.
    """
    rows, explained = told["strongest"], told["explained"]
    figure = Figure(figsize=(6.6, 1.35 * len(rows) + 0.5), layout="constrained")
    panels = figure.subplots(len(rows), 4, squeeze=False, width_ratios=[1, 1, 1, 1.9])
    most = max(heat.max() for heat in heats)
    for axes, part, heat, other in zip(panels, rows, heats, others, strict=True):
        words = (
            f"prototype {part['prototype']}, of {part['of_class']}\n{part['image']}\n"
            f"similarity {part['similarity']:.2f}\n"
            f"× weight {part['weight']:.2f} = {part['contributions'][explained]:.2f} for {explained}"
        )
        boxed(axes[0], image, part["box"])
        shown = boxed(axes[1], image, part["box"], heat, most)
        boxed(axes[2], other, part["prototype_box"])
        axes[3].set_axis_off()
        axes[3].text(0, 0.5, words, fontsize=7, va="center", transform=axes[3].transAxes)
    for axes, name in zip(panels[0], ["this part", "similarity", "looks like that", ""], strict=True):
        axes.set_title(name, fontsize=8)
    figure.colorbar(shown, ax=panels[:, :3], shrink=0.4, location="left").set_label("similarity")
    figure.suptitle(f"{title}, called {told['called']} ({told['probability']:.2f})", fontsize=9)
    return figure


def concept_maps(image: np.ndarray, title: str, rows: dict[str, list[tuple[str, np.ndarray]]]) -> Figure:
    """Return an image over the conditional heat maps of concepts, a row a layer, each map in a colour scale of its own.

    Parameters
    ----------
    image : uint8 array, H x W x 3
    title : str
    rows : dict
        Name of a layer to (label, heat map H x W) of its concepts.
    """
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.25 * columns + 1.2, 1.45 * (len(rows) + 1)), layout="constrained")
    panels = figure.subplots(len(rows) + 1, columns, squeeze=False)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    for axes in panels[0]:
        axes.spines[:].set_visible(False)
    panels[0][0].imshow(image)
    figure.suptitle(title)
    for panel, (layer, maps) in zip(panels[1:], rows.items(), strict=True):
        panel[0].set_ylabel(layer, fontsize=7)
        for axes, (label, heat) in zip(panel, maps, strict=False):
            shown = axes.imshow(heat / (np.abs(heat).max() or 1.0), vmin=-1, vmax=1, cmap="bwr")
            axes.set_title(label, fontsize=7)
        for axes in panel[len(maps) :]:
            axes.set_axis_off()
    bar = figure.colorbar(shown, ax=panels, ticks=[-1, 0, 1], shrink=0.4)
    bar.set_label("share of the largest relevance")
    return figure
