"""Stage prepare: read a data set, split it by group, and write it as one array.

By hand::

    python -m stages.prepare --params params.yaml --source data/embedded/fashion-mnist.npz --prepared data/prepared
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from logging import LoggerAdapter
from pathlib import Path

from tqdm import tqdm

from stages import command
from stages.datasets import fashion_mnist, ham10000, image_folder, masks, published, splits, store
from stages.datasets.source import Source
from stages.errors import InputError
from stages.params import load
from stages.params.data import Data

TENTHS = 10  # of the pictures, after each of which a line is logged


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.prepare", __doc__, source="the data set", prepared="folder to write")
    parser.add_argument("--threads", type=int, default=1, help="pictures decoded at a time; changes no byte")
    arguments = parser.parse_args()
    params = load(arguments.params).data
    log = command.logger("prepare")
    if not arguments.source.exists():
        raise InputError(f"{arguments.source}: no such file or folder; data.source in {arguments.params} names it")
    source = read(params, arguments.source)
    for missing in source.left_out:
        log.info("left out: %s", missing)
    split = splits.assign(source.records, source.classes, params.fractions.model_dump(), params.split_seed)
    mask = masks.reader(params.masks, source.records) if params.masks else None
    source = replace(source, records=source.records.assign(split=split), mask=mask)
    rows = range(len(source.records))
    if params.limit_per_class:
        rows = splits.limit(source.records, params.limit_per_class, params.split_seed)
    log.info("%d images of %d classes at %d px", len(rows), len(source.classes), params.image_size)
    store.write(
        arguments.prepared, params.name, source, rows, params.image_size,
        centre=params.centre, threads=arguments.threads, keep_duplicates=params.duplicates == "keep",
        track=lambda pictures: _tracked(pictures, len(rows), log),
    )  # fmt: skip
    counts = source.records.iloc[rows]["split"].value_counts()
    log.info("train %d, val %d, test %d", *(counts[part] for part in ("train", "val", "test")))


def _tracked(pictures: Iterable, count: int, log: LoggerAdapter) -> Iterator:
    """Yield the pictures; on a terminal a bar shows how far it is, elsewhere a line every tenth of the way."""
    if sys.stderr.isatty():
        yield from tqdm(pictures, "prepare", count, mininterval=2)
        return
    for number, picture in enumerate(pictures, start=1):
        yield picture
        if number * TENTHS // count > (number - 1) * TENTHS // count:
            log.info("%d of %d pictures", number, count)


def read(params: Data, path: Path) -> Source:
    """Return the data set that the parameters name."""
    if params.table:
        columns = params.table.columns()
        return image_folder.read_with_table(path, params.table.file, columns, params.classes, params.allow_missing)
    if params.name == "image-folder":
        return image_folder.read(path, params.classes)
    if params.name == "ham10000":
        return ham10000.read(path, params.allow_missing)
    if params.name == "imagenet":
        return published.read_imagenet(path)
    return fashion_mnist.read(path) if params.name == "fashion-mnist" else published.read_cifar(params.name, path)


if __name__ == "__main__":
    command.run(main)
