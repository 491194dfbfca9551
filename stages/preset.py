"""Apply presets to params.yaml, keeping its comments and every other value.

By hand::

    python -m stages.preset                                  # list them
    python -m stages.preset dataset=fashion-mnist budget=smoke

A preset is a fragment of params.yaml, `presets/GROUP/NAME.yaml`. Data sets come first, then models, then budgets.
"""

import difflib
import sys
from pathlib import Path

from ruamel.yaml import YAML

from stages import command
from stages.errors import InputError
from stages.files import replacing
from stages.params import load

PRESETS = Path("presets")
WHOLE = {"table", "sampling", "region", "masks"}  # mappings of which one value replaces another: never merged
ORDER = ["dataset", "model", "budget"]  # a budget may change the size of the images
NULL = "tag:yaml.org,2002:null"


def main() -> None:
    """Apply the presets named on the command line, or list all."""
    if not sys.argv[1:]:
        for group in sorted(PRESETS.iterdir()):
            print(f"{group.name}={' | '.join(sorted(file.stem for file in group.glob('*.yaml')))}")
        return
    apply(Path("params.yaml"), sys.argv[1:])


def apply(path: Path, names: list[str]) -> None:
    """Set in the file at `path` what the presets say; nothing is written unless the result is valid.

    Parameters
    ----------
    names : list of str
        Each `GROUP=NAME`.

    Raises
    ------
    InputError
        A preset does not exist, or the result is no valid params.yaml.
    """
    load(path)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    content = yaml.load(path.read_text())
    for file in sorted(map(_file, names), key=lambda file: ORDER.index(file.parent.name)):
        _set(content, yaml.load(file.read_text()))
    with replacing(path) as temporary:
        with temporary.open("w") as stream:
            yaml.dump(content, stream)
        load(temporary)


def _file(name: str) -> Path:
    file = PRESETS.joinpath(*name.split("=")).with_suffix(".yaml")
    if name.count("=") != 1 or not file.is_file():
        known = [f"{file.parent.name}={file.stem}" for file in sorted(PRESETS.glob("*/*.yaml"))]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise InputError(f"{name}: no such preset; {hint}")
    return file


def _set(content: dict, fragment: dict) -> None:
    for key, value in fragment.items():
        if key not in WHOLE and isinstance(value, dict) and isinstance(content.get(key), dict):
            _set(content[key], value)
        else:
            content[key] = value


if __name__ == "__main__":
    command.run(main)
