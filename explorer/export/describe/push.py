"""An exported folder -> a repository on the Hugging Face hub, private unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explorer.checkpoints import LOG_IN
from explorer.errors import ExportError, first_line

#: Of an export before, these would be loaded instead.
_WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "*.gguf"]


class Destination:
    """A repository to upload to, checked before anything is exported.

    Args:
        repository: OWNER/NAME.
        public: let everybody see it.

    Raises:
        ExportError: no such name can be, nobody is logged in, or it is public and `public` was not said.
    """

    def __init__(self, repository: str, public: bool = False) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
        from huggingface_hub.utils import validate_repo_id

        self.repository, self.public = repository, public
        try:
            validate_repo_id(repository)
        except HFValidationError as error:
            raise ExportError("Not a name on the hub", first_line(error), "Write OWNER/NAME") from None
        self._api: Any = HfApi()
        try:
            self._api.whoami()
        except Exception as error:  # the hub's client raises its own, the network's and plain ones alike
            raise ExportError("Cannot log in to the hub", first_line(error).rstrip("."), LOG_IN) from error
        try:
            private = self._api.repo_info(repository).private
        except RepositoryNotFoundError:
            return
        except Exception as error:
            raise ExportError(
                "Cannot look at the repository", self._found(error), "Check its name and the connection, and try again"
            ) from error
        if not private and not public:
            raise ExportError("The repository is public", repository, "Name another, or allow it with --public")

    def upload(self, folder: Path) -> str:
        """Upload a folder as one commit, its weights in place of others there; return the repository's address.

        Raises ExportError if that fails.
        """
        try:
            self._api.create_repo(self.repository, private=not self.public, exist_ok=True)
            self._api.upload_folder(
                repo_id=self.repository,
                folder_path=folder,
                commit_message="Pruned by Layer Redundancy Explorer",
                delete_patterns=_WEIGHTS,
            )
        except Exception as error:
            raise ExportError(
                "The hub did not take it", self._found(error), "The folder that was written is whole; upload it again"
            ) from error
        return f"{self._api.endpoint}/{self.repository}"

    def _found(self, error: Exception) -> str:
        return f"{self.repository} ({first_line(error).rstrip('.')})"
