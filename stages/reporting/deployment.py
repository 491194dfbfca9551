"""What pruned networks are worth where they are used, as sentences and a table."""

import pandas as pd

from stages.reporting import tables

COLUMNS = ["criterion", "seed", "engine", "batch", "threads", "milliseconds", "unpruned_milliseconds"]
COLUMNS += ["images_per_second", "unpruned_images_per_second", "speed_up", "macs", "macs_ratio"]
COLUMNS += ["images", "identical", "max_abs_difference"]


def agreement_in_words(row: pd.Series | dict) -> str:
    """Return how far a network in ONNX is from PyTorch.

    Parameters
    ----------
    row : Series or dict
        images, identical (predicted classes) and max_abs_difference (of logits).
    """
    return (
        f"{row['identical']:.0f} of {row['images']:.0f} test images are classed as by PyTorch, logits differ by at "
        f"most {row['max_abs_difference']:.1e}"
    )


def page(table: pd.DataFrame) -> str:
    """Return what a table of `COLUMNS` says as Markdown; an empty one: that nothing was asked for."""
    if table.empty:
        return "No network was asked for (`evaluate.onnx` is none).\n"
    seeds = ", ".join(map(str, table["seed"].unique()))
    said = [
        f"- {row['criterion']}: {agreement_in_words(row)}; {row['macs_ratio']:.2f} times fewer MACs."
        for _, row in table.drop_duplicates(["criterion", "seed"]).iterrows()
    ]
    threads = table["threads"].iloc[0]
    return (
        f"The last networks (seed {seeds}) as ONNX, run by onnxruntime on the processor ({threads} "
        f"thread{'s' if threads > 1 else ''}):\n\n" + "\n".join(said) + "\n\n"
        "How fast they are in both engines, by turns with the unpruned network, beside what MACs promise:\n\n"
        f"{markdown(table)}\n"
    )


def markdown(table: pd.DataFrame) -> str:
    """Return milliseconds a forward pass, images a second and speed-ups, a row a criterion, engine and batch size."""
    shown = table[["criterion", "engine", "batch"]].assign(
        **{
            "ms": table["milliseconds"].map("{:.2f}".format),
            "ms of the unpruned": table["unpruned_milliseconds"].map("{:.2f}".format),
            "images a second": table["images_per_second"].map("{:,.0f}".format),
            "of the unpruned": table["unpruned_images_per_second"].map("{:,.0f}".format),
            "times the speed": table["speed_up"].map("{:.2f}".format),
            "MACs, times fewer": table["macs_ratio"].map("{:.2f}".format),
        }
    )
    return tables.as_markdown(shown)
