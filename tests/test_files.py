import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from stages import run
from stages.files import is_whole, write_rows


def written(folder):
    save_file({"a": torch.arange(100.0), "b": torch.ones(3)}, folder / "a.safetensors")
    np.save(folder / "a.npy", np.arange(50))
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


def test_a_file_that_cannot_be_read_now_is_not_taken_for_broken(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError):
        is_whole(tmp_path / "a.json")


def test_files_that_are_not_whole_are_deleted_in_the_work_folder_with_their_step(tmp_path, capsys, monkeypatch):
    cleaned = []
    monkeypatch.setattr(run, "clean_cache", lambda: cleaned.append(True))
    monkeypatch.setenv("STUDY_WORK", str(tmp_path / "work"))
    for folder in (work := tmp_path / "work/lrp/seed0", published := tmp_path / "models"):
        folder.mkdir(parents=True)
        paths = written(folder)
        for name in ("a.part.csv", "b.json"):
            (folder / name).write_text("[]\n")
    assert run.delete_broken(work, published) == 0 and not cleaned
    for folder in (work, published):
        os.truncate(folder / "a.npz", 3)
    assert run.delete_broken(work, published, tmp_path / "absent") == 2
    assert cleaned == [True]
    assert [path.name for path in work.iterdir()] == ["b.json"]
    assert len(list(published.iterdir())) == len(paths) + 1
    assert f"{work / 'a.npz'}: not whole, and made again\n" in capsys.readouterr().err


def test_what_is_wrong_in_the_cache_of_dvc_is_deleted_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)
    for name in ("right", "wrong"):
        Path(name).write_text(name)
        subprocess.run(["dvc", "add", "-q", name], check=True)
    copies = {path.read_text(): path for path in Path(".dvc/cache/files/md5").glob("??/*")}
    copies["wrong"].chmod(0o644)
    copies["wrong"].write_text("wro")
    other = copies["right"].with_name(".transfer.tmp")
    other.write_text("of a DVC that is at work")
    run.clean_cache()
    assert copies["right"].exists() and other.exists()
    assert not copies["wrong"].exists()
