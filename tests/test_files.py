import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from stages.files import is_whole, write_rows
from stages.run import delete_broken


def written(folder):
    save_file({"a": torch.arange(100.0), "b": torch.ones(3)}, folder / "a.safetensors")
    np.savez(folder / "a.npz", first=np.arange(50), second=np.ones(7))
    pd.DataFrame({"a": range(90)}).to_parquet(folder / "a.parquet")
    (folder / "a.json").write_text(json.dumps({"a": [1, 2, 3]}))
    write_rows(folder / "a.csv", [{"a": 1, "b": "two"}, {"a": 3, "b": "four"}])
    return sorted(folder.iterdir())


@pytest.mark.parametrize("left", [0, 1, 0.5, -1], ids=["nothing", "a byte", "half", "all but a byte"])
def test_a_file_without_its_end_is_not_whole(tmp_path, left):
    for path in written(tmp_path):
        assert is_whole(path), path
        size = path.stat().st_size
        os.truncate(path, size - 1 if left == -1 else int(left * size) if left < 1 else left)
        assert not is_whole(path), path
    assert not is_whole(tmp_path / "absent.json")


def test_files_that_are_not_whole_are_deleted_and_named(tmp_path, capsys):
    step = tmp_path / "lrp/seed0"
    step.mkdir(parents=True)
    paths = written(step)
    (step / "seed0.training").write_bytes(b"a state of training, which checks itself")
    os.truncate(paths[0], 3)
    delete_broken(tmp_path)
    assert sorted(step.iterdir()) == sorted([*paths[1:], step / "seed0.training"])
    assert capsys.readouterr().err == f"{paths[0]}: not whole, and made again\n"
