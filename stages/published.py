"""What others report for a data set, and how far the study's unpruned networks are from it."""

from pathlib import Path

import pandas as pd
import yaml

from stages.errors import InputError

FILE = Path("docs/published.yaml")


def of(source: str) -> list[dict]:
    """Return what `docs/published.yaml` has for a data source: said_by, of, and metrics by their columns.

    Raises
    ------
    InputError
        The file is not YAML.
    """
    if not FILE.exists():
        return []
    try:
        return (yaml.safe_load(FILE.read_text()) or {}).get(Path(source).name, [])
    except yaml.YAMLError as error:
        raise InputError(f"{FILE}: not valid YAML: {error}") from None


def beside(table: pd.DataFrame, entries: list[dict]) -> str:
    """Return the distance of the unpruned networks of metrics/pruning.csv to each entry, a paragraph each."""
    ours = table[table["phase"] == "baseline"]
    paragraphs = []
    for entry in entries:
        parts = []
        for name, value in entry.items():
            if name not in ("said_by", "of"):
                here = f"{ours[name].mean():.4f}" + (f" ± {ours[name].std():.4f}" if len(ours) > 1 else "")
                away = f"{100 * (ours[name].mean() - value):+.1f} points"
                parts.append(f"{name.replace('_', ' ')} {value} there, {here} here unpruned ({away})")
        paragraphs.append(f"Published by {entry['said_by']}: {entry['of']}: {'; '.join(parts)}.")
    return "\n\n".join(paragraphs)
