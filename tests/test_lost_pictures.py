import sys

import numpy as np
import pandas as pd

from stages import safety
from stages.reporting import montage

IMAGES = ["a", "b", "c"]


def predictions(folder, criterion, wrong):
    """Write predictions of two classes; `wrong` says which images each step and phase has wrong."""
    rows = [
        [step, phase, image, number % 2, *((0.9, 0.1) if (image in images) == (number % 2 == 1) else (0.1, 0.9))]
        for (step, phase), images in wrong.items()
        for number, image in enumerate(IMAGES)
    ]
    file = folder / criterion / "seed0.parquet"
    file.parent.mkdir()
    columns = ["step", "phase", "image_id", "label", "probability_no", "probability_yes"]
    pd.DataFrame(rows, columns=columns).to_parquet(file)
    return file


def test_the_pictures_are_of_what_the_last_step_lost_not_of_what_one_before_did(tmp_path, monkeypatch):
    data = tmp_path / "prepared"
    data.mkdir()
    index = pd.DataFrame({"image_id": IMAGES, "label": [0, 1, 0], "group": IMAGES, "split": "test"})
    index.to_csv(data / "index.csv", index=False)
    np.save(data / "images.npy", np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(3, 3))
    files = [
        predictions(tmp_path, "baseline", {(0, "baseline"): ""}),
        predictions(tmp_path, "lrp", {(1, "finetuned"): "c", (2, "finetuned"): ""}),
        predictions(tmp_path, "weight", {(1, "finetuned"): "c", (2, "finetuned"): "b"}),
    ]
    shown = {}
    draw = montage.picture_rows
    monkeypatch.setattr(montage, "picture_rows", lambda rows, columns: shown.update(rows) or draw(rows, columns))
    arguments = ["--params", "params.yaml", "--data", data, "--folder", tmp_path / "out", "--predictions", *files]
    monkeypatch.setattr(sys, "argv", ["safety", *map(str, arguments)])
    safety.main()
    assert list(shown) == ["lrp", "weight"]
    assert shown["lrp"] == []
    ((picture, caption),) = shown["weight"]
    assert (picture == IMAGES.index("b")).all()
    assert caption == "yes\n→ no\n0.90 → 0.10 (1)"
    assert (tmp_path / "out/flips.png").read_bytes().startswith(b"\x89PNG")
