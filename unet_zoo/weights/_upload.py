"""Entries onto the Hugging Face hub, by its own client."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from pathlib import Path

from unet_zoo import errors
from unet_zoo.weights import _entries, _http

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)/?")


def check_upload(address: str) -> str:
    """Return `owner/name` of an address that can be uploaded to, before work begins.

    Raises `InputError` for another address and without the package huggingface_hub.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        message = f"Upload to hf://owner/name. Received: {address}"
        raise errors.InputError(message)
    if importlib.util.find_spec("huggingface_hub") is None:
        message = (
            "Uploading needs the hub's own client: pip install 'unet-zoo[hub]', then "
            "log in by `hf auth login`. Or publish to a folder, and upload the folder "
            "of the entry as it is on the website of the hub."
        )
        raise errors.InputError(message)
    return match[1]


def addressed(card: str, name: str, address: str) -> str:
    """Return a card whose lines of code take weights from an address, not by a name.

    >>> addressed('load("mine").segment(image) of mine', "mine", "hf://me/mine")
    'load("hf://me/mine").segment(image) of mine'
    """
    before = r'load\("|unet-zoo evaluate |unet-zoo reproduce |--from '
    return re.sub(rf"({before}){re.escape(name)}(?![\w./-])", rf"\g<1>{address}", card)


def upload(entry: _entries.Entry, address: str, *, overwrite: bool = False) -> str:
    """Upload the folder of an entry and return the address of the commit.

    Where its card says how to load it, that is by `address` then; else it is uploaded
    as it is. The repository is made where there is none. The client asks for the token
    that `hf auth login` or HF_TOKEN gave it.

    Args:
        entry: what `read_entry` returned.
        address: `hf://owner/name`.
        overwrite: go on where the repository holds an entry; its history keeps that.

    Raises:
        InputError: without the package huggingface_hub, without the right to write, and
            when there is an entry already.
    """
    repository = check_upload(address)
    _entries.check_entry(entry)
    import huggingface_hub

    client = huggingface_hub.HfApi(endpoint=_http.hub())
    try:
        client.create_repo(repository, exist_ok=True)
        if client.file_exists(repository, _entries.NAME) and not overwrite:
            message = (
                f"{address} holds an entry already. Say `overwrite` to commit this one "
                "on top of it, or choose another name."
            )
            raise errors.InputError(message)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / entry.name
            shutil.copytree(entry.folder, folder, ignore=shutil.ignore_patterns(".*"))
            card = folder / "README.md"
            if card.exists():
                text = card.read_text(encoding="utf-8")
                text = addressed(text, entry.name, f"hf://{repository}")
                card.write_text(text, encoding="utf-8")
            done = client.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"Publish {entry.name} ({entry.sha256[:12]})",
            )
    except huggingface_hub.errors.HfHubHTTPError as error:
        message = f"{address} could not be written: {error}. Are you logged in there?"
        raise errors.InputError(message) from error
    return str(done.commit_url)
