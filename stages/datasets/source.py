"""What a data set is before it is prepared."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
from PIL.Image import Image

COLUMNS = ["image_id", "label", "group", "split"]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """A data set as its reader found it.

    Attributes
    ----------
    classes : list of str
        Class names; a label is an index into them.
    records : DataFrame
        One row an image: `image_id` (unique), `label`, `group` (images of one group never part), `split` (`train`,
        `val`, `test`, or "" where it is to be drawn); then columns that name subgroups, such as `age`, `sex`, `site`.
    image : callable
        Position of a row to its picture, in RGB. Called by several threads at a time.
    left_out : list of str
        What was left out because its picture or its row is missing, in words.
    mask : callable, optional
        Position of a row and the size of its picture to its mask, grey, 255 inside and 0 outside. By several threads.
    """

    classes: list[str]
    records: pd.DataFrame
    image: Callable[[int], Image]
    left_out: list[str] = field(default_factory=list)
    mask: Callable[[int, tuple[int, int]], Image] | None = None
