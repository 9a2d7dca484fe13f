"""A bucket in memory, which refuses, fails or lets something happen in between as a test says."""

import itertools
from typing import IO

from fgvc_jax.workdir.bucket import Changed, ObjectStat


class Memory:
    """As `bucket.Client`; what `before` has by the name of a request is called first."""

    def __init__(self):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.before = {}
        self._generations = itertools.count(1_700_000_000_000_000)

    def _ask(self, request, *arguments):
        if hook := self.before.get(request):
            hook(*arguments)

    def _expect(self, name, generation):
        if self.objects.get(name, (b"", 0))[1] != generation:
            raise Changed(name)

    def put(self, name: str, content: bytes) -> int:
        self.objects[name] = content, next(self._generations)
        return self.objects[name][1]

    def stat(self, name: str) -> ObjectStat | None:
        self._ask("stat", name)
        found = self.objects.get(name)
        return found and ObjectStat(len(found[0]), found[1])

    def list(self, prefix: str) -> list[str]:
        self._ask("list", prefix)
        return sorted(name for name in self.objects if name.startswith(prefix))

    def load(self, name: str, file: IO[bytes], generation: int) -> None:
        self._ask("load", name, file)
        self._expect(name, generation)
        file.write(self.objects[name][0])

    def store(self, name: str, file: IO[bytes], generation: int) -> int:
        self._ask("store", name)
        self._expect(name, generation)
        return self.put(name, file.read())

    def rename(self, name: str, to: str, generation: int) -> int:
        self._ask("rename", name, to)
        self._expect(to, generation)
        if name not in self.objects:
            raise Changed(name)
        return self.put(to, self.objects.pop(name)[0])

    def remove(self, name: str, generation: int) -> None:
        self._ask("remove", name)
        self._expect(name, generation)
        del self.objects[name]
