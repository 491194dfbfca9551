"""Stage prepare: read a data set, split it by group, and write it as one array.

By hand::

    python -m stages.prepare --params params.yaml --source data/embedded/fashion-mnist.npz --prepared data/prepared
"""

from pathlib import Path

from tqdm import tqdm

from stages import command
from stages.datasets import fashion_mnist, image_folder, splits, store
from stages.errors import InputError
from stages.files import sha256
from stages.params import load

READERS = {"fashion-mnist": fashion_mnist.read, "image-folder": image_folder.read}


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.prepare", __doc__, source="the data set", prepared="folder to write")
    arguments = parser.parse_args()
    params = load(arguments.params).data
    log = command.logger("prepare")
    if not arguments.source.exists():
        raise InputError(f"{arguments.source}: no such file or folder; data.source in {arguments.params} names it")
    source = READERS[params.name](arguments.source)
    records = source.records.assign(
        split=splits.assign(source.records, source.classes, params.fractions.model_dump(), params.split_seed)
    )
    rows = range(len(records))
    if params.limit_per_class:
        rows = splits.limit(records, params.limit_per_class, params.split_seed)
    log.info("%d images of %d classes at %d px", len(rows), len(source.classes), params.image_size)
    store.write(
        Path(arguments.prepared),
        params.name,
        source.classes,
        records.iloc[rows].reset_index(drop=True),
        tqdm((source.image(row) for row in rows), "prepare", len(rows), mininterval=2, disable=None),
        params.image_size,
        sha256(arguments.source),
    )
    counts = records.iloc[rows]["split"].value_counts()
    log.info("train %d, val %d, test %d", *(counts[part] for part in ("train", "val", "test")))


if __name__ == "__main__":
    command.run(main)
