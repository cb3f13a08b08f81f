"""An exported folder to the Hugging Face hub: `mtlplug push`."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from mtlplug.errors import MtlplugError


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Upload what `mtlplug export` wrote, as the user who is logged in; the address it is at.

    Raises:
        MtlplugError: the folder holds no exported model, the name is none, nobody is logged in,
            or the hub cannot be reached or refuses.
    """
    for name in ("README.md", "config.json"):
        if not (folder / name).is_file():
            raise MtlplugError(
                f"{folder} has no {name}; give the folder of one model that 'mtlplug export' wrote"
            )
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise MtlplugError(f"'{repo}' is no name of a repository ({error})") from None
    if not huggingface_hub.get_token():
        raise MtlplugError("nobody is logged in to the hub; run 'hf auth login', or set HF_TOKEN")
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Export of mtlplug")
    except OfflineModeIsEnabled:
        raise MtlplugError("the hub is switched off by HF_HUB_OFFLINE; unset it") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MtlplugError(f"the hub did not take {folder} as {repo} ({reason:.300})") from error
    return str(address)
