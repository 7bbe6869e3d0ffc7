"""botocore's descriptions of AWS's services, read in half of the time that botocore needs.

A process reads them before its first call of AWS.
"""

from __future__ import annotations

import gzip
import os
from functools import cache
from typing import Any

import msgspec
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import JSONFileLoader, Loader


@cache
def loader(data_path: str | None) -> Loader:
    """Return the reader of the descriptions in ``data_path``, in ``~/.aws/models`` and in botocore.

    It keeps what it has read, so there is one for a process. ``data_path``: botocore's setting of this name, folders
    separated by colons.
    """
    folders = data_path.split(os.pathsep) if data_path else []
    paths = [os.path.expanduser(os.path.expandvars(folder)) for folder in folders]
    return _Descriptions(extra_search_paths=paths, file_loader=_Files())


class _Descriptions(Loader):
    def list_available_services(self, type_name: str) -> list[str]:
        """Return the names of the folders, without a look into each of them: botocore's own takes 2,000 calls of the
        file system.

        Every service is among them, whatever the type of description; :meth:`load_service_model` finds those that lack
        one.
        """
        return sorted({name for path in self.search_paths if os.path.isdir(path) for name in os.listdir(path)})

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """Return a service's description of this type.

        :raises UnknownServiceError: if there is none, as botocore's own does.
        """
        try:
            return super().load_service_model(service_name, type_name, api_version)
        except UnknownServiceError:
            raise
        except DataNotFoundError:
            raise UnknownServiceError(service_name=service_name, known_service_names="see botocore") from None


class _Files(JSONFileLoader):
    def load_file(self, file_path: str) -> Any:
        """Return what the file holds, or None if there is none. ``file_path`` has no ending."""
        for path, opened in ((f"{file_path}.json", open), (f"{file_path}.json.gz", gzip.open)):
            if os.path.isfile(path):
                with opened(path, "rb") as file:
                    return msgspec.json.decode(file.read())
        return None
