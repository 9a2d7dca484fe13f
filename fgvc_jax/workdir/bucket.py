"""A bucket of Google Cloud Storage: what is asked of it, patiently, and a text to compare and swap.

`mirror` makes a workdir of it.
"""

import contextlib
import importlib.util
import io
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, Protocol, TypeVar

from fgvc_jax.utils.errors import UserError, first_line

PATIENCE = 120.0  # seconds that a request is repeated
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0  # seconds between repetitions
T = TypeVar("T")


class Changed(Exception):
    """An object is not of the generation that was expected, or has gone."""


class Unavailable(Exception):
    """The service is not reached, or asks to come again."""


class ObjectStat(NamedTuple):
    """An object: its size in bytes, and its generation, which each write changes."""

    size: int
    generation: int


class Client(Protocol):
    """What a client of a bucket can do. A given generation must be that of the object (0: there is
    no object), else Changed is raised. After Unavailable one may try again, after a UserError
    not."""

    def stat(self, name: str) -> ObjectStat | None: ...
    def list(self, prefix: str) -> list[str]: ...
    def load(self, name: str, file: IO[bytes], generation: int) -> None: ...
    def store(self, name: str, file: IO[bytes], generation: int) -> int: ...
    def rename(self, name: str, to: str, generation: int) -> int: ...
    def remove(self, name: str, generation: int) -> None: ...


class Google:
    """A bucket of Google Cloud Storage, or of an emulator that STORAGE_EMULATOR_HOST names."""

    def __init__(self, bucket: str):
        # Else gcsfs asks, by a protocol that emulators and many roles refuse, what kind of bucket
        # it is; and with an emulator nobody need look for a machine of Google's.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        if "STORAGE_EMULATOR_HOST" in os.environ:
            os.environ.setdefault("NO_GCE_CHECK", "true")
        try:
            if importlib.util.find_spec("gcsfs") is None:  # which Orbax needs
                raise ImportError("No module named 'gcsfs'")
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import storage
        except ImportError as error:
            raise UserError(
                f"gs:// needs packages that are not installed ({error}): "
                "pip install 'fgvc_jax[gcs]'"
            ) from error
        try:
            self._client = storage.Client(project=None)
        except DefaultCredentialsError as error:
            raise UserError(
                f"gs://{bucket} wants credentials: gcloud auth application-default login"
            ) from error
        self._bucket = self._client.bucket(bucket)

    def stat(self, name: str) -> ObjectStat | None:
        with self._told():
            blob = self._bucket.get_blob(name, retry=None)
        return blob and ObjectStat(blob.size, blob.generation)

    def list(self, prefix: str) -> list[str]:
        with self._told():
            found = self._client.list_blobs(self._bucket, prefix=prefix, retry=None)
            return [blob.name for blob in found]

    def load(self, name: str, file: IO[bytes], generation: int) -> None:
        with self._told():
            self._bucket.blob(name).download_to_file(
                file, if_generation_match=generation, retry=None
            )

    def store(self, name: str, file: IO[bytes], generation: int) -> int:
        blob = self._bucket.blob(name)
        size = file.seek(0, io.SEEK_END)  # known to be small, it takes one request and not two
        with self._told():
            blob.upload_from_file(
                file, size=size, rewind=True, if_generation_match=generation, retry=None
            )
        return blob.generation

    def rename(self, name: str, to: str, generation: int) -> int:
        source, blob, token = self._bucket.blob(name), self._bucket.blob(to), None
        with self._told():
            while True:
                token, _, _ = blob.rewrite(
                    source, token=token, if_generation_match=generation, retry=None
                )
                if token is None:
                    break
            source.delete(retry=None)
        return blob.generation

    def remove(self, name: str, generation: int) -> None:
        with self._told():
            self._bucket.blob(name).delete(if_generation_match=generation, retry=None)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the library's errors into those of `Client`."""
        import requests
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.cloud.storage.exceptions import DataCorruption

        later = requests.RequestException, ConnectionError, TimeoutError, TransportError
        try:
            yield
        except exceptions.PreconditionFailed as error:
            raise Changed(str(error)) from error
        except exceptions.NotFound as error:
            if not self._is_there():
                raise UserError(f"there is no bucket gs://{self._bucket.name}") from error
            raise Changed(str(error)) from error
        except exceptions.GoogleAPICallError as error:
            if error.code in (408, 429) or error.code is None or error.code >= 500:
                raise Unavailable(f"{error.code} {error.message}") from error
            raise UserError(f"gs://{self._bucket.name} refuses ({first_line(error)})") from error
        except (*later, DataCorruption) as error:
            raise Unavailable(str(error)) from error
        except GoogleAuthError as error:
            raise UserError(
                f"gs://{self._bucket.name} wants other credentials ({first_line(error)})"
            ) from error

    def _is_there(self) -> bool:
        from google.api_core import exceptions

        try:
            next(iter(self._client.list_blobs(self._bucket, max_results=1, retry=None)), None)
        except exceptions.NotFound:
            return False
        except exceptions.GoogleAPICallError:
            return True
        return True


connect: Callable[[str], Client] = Google


class SharedText:
    """A small text in a bucket that is replaced only where it is what it was when it was read."""

    def __init__(self, url: str, name: str, client: Client):
        self._url = url
        self._name = name
        self._client = client

    def read(self) -> tuple[str, int]:
        """(text, generation); of none ("", 0)."""
        while True:
            found = patient(lambda: self._client.stat(self._name), self._url)
            if found is None:
                return "", 0
            file = io.BytesIO()
            try:
                patient(
                    lambda: self._client.load(self._name, file, found.generation),  # noqa: B023
                    self._url,
                )
            except Changed:
                continue
            return file.getvalue().decode(errors="surrogateescape"), found.generation

    def write(self, text: str, generation: int) -> None:
        """Replace the text that was read with `generation`.

        Raises:
            Changed: when it is another now.
        """
        content = text.encode(errors="surrogateescape")
        try:
            patient(
                lambda: self._client.store(self._name, io.BytesIO(content), generation),
                self._url,
            )
        except Changed:
            if self.read()[0] != text:  # else it was this write, whose answer got lost
                raise


_given_up: set[str] = set()  # what was not reached: whatever follows tries once


def patient(request: Callable[[], T], what: str) -> T:
    """The answer to a request, which is repeated while the service is not available.

    Raises:
        UserError: when it is not for PATIENCE seconds.
    """
    end, wait = time.monotonic() + (0 if what in _given_up else PATIENCE), FIRST_WAIT
    while True:
        try:
            answer = request()
            _given_up.discard(what)
            return answer
        except Unavailable as error:
            if time.monotonic() + wait > end:
                _given_up.add(what)
                raise UserError(
                    f"{what!r} is not reached ({first_line(error)}), after {PATIENCE:.0f} s of "
                    "trying: the same command continues once it is"
                ) from error
        time.sleep(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, LONGEST_WAIT)
