"""A network of the study for deployment: ONNX, checked against PyTorch on the test split, and timed.

::

    python -m stages.export --checkpoint models/pruned/lrp/seed0/step4.safetensors --onnx lrp.onnx

The graph takes images in [0, 1] (N x 3 x H x W, any N; the normalisation is part of it) and returns logits. Beside it,
`lrp.onnx.json` says how far it is from PyTorch and how fast both are, against an unpruned network of the same kind.
"""

from pathlib import Path

from stages import command
from stages.as_onnx import write_and_compare
from stages.datasets import store
from stages.errors import InputError, naming
from stages.files import replacing, write_json
from stages.networks import checkpoint
from stages.params import load
from stages.reporting.deployment import agreement_in_words

TOLERANCE = 1e-3  # of logits; float32 sums in another order differ by less


def main() -> None:
    """Run the command."""
    parser = command.parser("stages.export", __doc__, checkpoint="network of the study", onnx="file to write")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared data (default: the study's)")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate
    network, architecture = checkpoint.load(arguments.checkpoint)
    data = store.load(arguments.data)
    if architecture.classes != data.classes or architecture.image_size != data.description["image_size"]:
        raise InputError(f"{arguments.checkpoint}: its classes or image size are not those of {arguments.data}")
    batches = data.batches(data.rows("test"), params.batch_size)
    with naming(arguments.onnx), replacing(arguments.onnx) as temporary:
        found = write_and_compare(network, architecture, batches, params.latency, temporary)
        if not found["max_abs_difference"] <= TOLERANCE:
            raise InputError(
                f"{arguments.onnx}: its logits differ from PyTorch's by up to {found['max_abs_difference']:.2g}, more "
                f"than {TOLERANCE:g}; not written"
            )
    write_json(arguments.onnx.with_name(f"{arguments.onnx.name}.json"), found)
    print(f"{arguments.onnx}: {agreement_in_words(found)}; {found['macs_ratio']:.2f} times fewer MACs than unpruned")
    for row in found["times"]:
        print(
            f"  {row['engine']}, batch of {row['batch']}: {row['milliseconds']:.2f} ms, "
            f"{row['images_per_second']:.0f} images/s; "
            f"{row['speed_up']:.2f} times as fast as unpruned ({row['unpruned_milliseconds']:.2f} ms)"
        )


if __name__ == "__main__":
    command.run(main)
