"""HAM10000: dermatoscopic images of skin lesions (Tschandl, Rosendahl & Kittler, 2018, Scientific Data 5:180161)."""

from pathlib import Path

from stages.datasets import pictures, table
from stages.datasets.source import Source
from stages.errors import InputError

CLASSES = ["nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"]
METADATA = "HAM10000_metadata.csv"
PARTS = ["HAM10000_images_part1", "HAM10000_images_part2", "HAM10000_images_part_1", "HAM10000_images_part_2"]
COLUMNS = {"image_id": "image_id", "label": "dx", "group": "lesion_id"}
SUBGROUPS = {"age": "age", "sex": "sex", "site": "localization"}


def read(folder: Path, allow_missing: bool = False) -> Source:
    """Read the published archive, or Kaggle's; a lesion is a group, and age, sex and site are subgroups.

    Parameters
    ----------
    folder : Path
        Holds HAM10000_metadata.csv and the two folders of images, `…_part1` or `…_part_1`.
    allow_missing : bool
        See `table.to_source`.

    Raises
    ------
    InputError
        The folder is none of HAM10000, or what `table.to_source` refuses.
    """
    folder = Path(folder)
    rows = table.read(folder / METADATA, COLUMNS | SUBGROUPS)
    parts = [folder / name for name in PARTS if (folder / name).is_dir()]
    if not parts:
        raise InputError(f"{folder}: has no folder {' or '.join(PARTS[::2])} with the images")
    files: dict[str, Path] = {}
    for path in (path for part in parts for path in pictures.below(part).values()):
        if path.stem in files:
            raise InputError(f"{path}: image {path.stem} is also {files[path.stem]}; keep one")
        files[path.stem] = path
    return table.to_source(folder / METADATA, rows, files, CLASSES, allow_missing)
