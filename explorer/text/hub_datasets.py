"""A data set's name on the hub -> its rows. Its own description leads neither to other hosts nor to this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from explorer.errors import TextError, first_line
from explorer.paths import expand_user
from explorer.reading import Unreadable, read_text

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*"
_HUB_NAME = re.compile(rf"{_PART}(/{_PART})?")
_REMEDY = "Give hf:OWNER/NAME of the hub, or hf: and a folder's whole path"
_DESCRIPTIONS = ("README.md", ".huggingface.yaml")


def is_hub_name(name: str) -> bool:
    """Tell whether the hub could have a repository of that name: NAME or OWNER/NAME."""
    return len(name) <= 96 and "--" not in name and _HUB_NAME.fullmatch(name) is not None


def stream_rows(name: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    """Read the rows of a data set one by one, with pictures and sounds left as they are stored.

    What has a name of the hub is read from there, even where a folder of this machine has the same name; anything
    else is a folder. `datasets` itself would follow a description to other hosts, and to other files of this machine.

    Raises:
        TextError: no such data set, or a description that leads out of it; anything else is the hub's client's.
    """
    import datasets

    revision = None
    if not is_hub_name(name):
        path = _check_folder(name)
    elif not datasets.config.HF_HUB_OFFLINE:
        name, revision = _check_repository(name)
        path = f"hf://datasets/{name}"
    elif "/" in name:
        path = f"hf://datasets/{name}"
    else:  # `datasets` has readers of that kind of name, which would read the working folder
        raise TextError("Not a data set of the hub", repr(name), _REMEDY)
    found = datasets.load_dataset(path, config, split=split, revision=revision, streaming=True)
    yield from found.decode(False)


def _check_folder(name: str) -> str:
    folder = expand_user(name)
    try:
        if not folder.is_dir():
            raise TextError("No such data set", repr(name[:80]), _REMEDY)
        for file in _DESCRIPTIONS:
            if (folder / file).is_file():
                _check(name, file, read_text(folder / file), "")
    except (OSError, ValueError, Unreadable) as error:
        raise TextError("Cannot read the data set", f"{name[:80]!r} ({first_line(error)})", _REMEDY) from None
    return str(folder.absolute())


def _check_repository(name: str) -> tuple[str, str]:
    """Return the full name and the revision of a data set of the hub that leads nowhere else."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import EntryNotFoundError

    api = HfApi()
    info = api.dataset_info(name)
    if not info.sha or "/" not in info.id:
        raise TextError("Not a data set of the hub", repr(info.id[:80]), _REMEDY)
    for file in _DESCRIPTIONS:
        try:
            path = api.hf_hub_download(info.id, file, repo_type="dataset", revision=info.sha)
        except EntryNotFoundError:
            continue
        _check(info.id, file, Path(path).read_text(encoding="utf-8"), constants.ENDPOINT)
    return info.id, info.sha


def _check(name: str, file: str, content: str, endpoint: str) -> None:
    """Raise TextError if a description names files elsewhere."""
    import yaml
    from huggingface_hub import DatasetCard

    described = DatasetCard(content).data.to_dict() if file == "README.md" else yaml.safe_load(content)
    for given in list_files(described):
        if not is_inside(given, endpoint):
            found = f"{file} of {name[:80]!r} names {given[:80]!r}"
            raise TextError("The data set leads elsewhere", found, "Name another")


def list_files(described: Any) -> list[str]:
    """List what a description's configurations name as data files and folders."""
    configs = described.get("configs") if isinstance(described, dict) else None
    named = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    return [text for config in named for key in ("data_files", "data_dir") for text in _texts(config.get(key))]


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def is_inside(given: str, endpoint: str) -> bool:
    """Tell whether a data file that a description names is one of the hub: relative, or with the hub's address.

    Args:
        endpoint: the hub's address; none for a folder of this machine.
    """
    inner = given.removeprefix("hf://datasets/").removeprefix(f"{endpoint}/datasets/") if endpoint else given
    try:
        elsewhere = bool(urlsplit(inner).scheme or urlsplit(inner).netloc)
    except ValueError:
        return False
    return not (elsewhere or "::" in inner or inner.startswith(("/", "\\", "~")) or ".." in re.split(r"[/\\]", inner))
