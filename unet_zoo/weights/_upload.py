"""Entries onto the Hugging Face hub, by its own client."""

from __future__ import annotations

import importlib.util
import re

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


def upload(entry: _entries.Entry, address: str, *, overwrite: bool = False) -> str:
    """Upload the folder of an entry as it is and return the address of the commit.

    The repository is made where there is none. The client asks for the token that
    `hf auth login` or HF_TOKEN gave it.

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
        done = client.upload_folder(
            repo_id=repository,
            folder_path=entry.folder,
            commit_message=f"Publish {entry.name} ({entry.sha256[:12]})",
            ignore_patterns=[".*"],
        )
    except huggingface_hub.errors.HfHubHTTPError as error:
        message = f"{address} could not be written: {error}. Are you logged in there?"
        raise errors.InputError(message) from error
    return str(done.commit_url)
