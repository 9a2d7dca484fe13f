"""Images on their way to the devices: where decoded ones live, and batches of them."""

import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar, Unpack

import jax
import numpy as np
from jax.sharding import Mesh

from fgvc_jax.data import pipeline, whole
from fgvc_jax.data.images import Broken, content_digest
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.data.records import Records, Source, Splits, Subset
from fgvc_jax.data.view import Reading, View
from fgvc_jax.utils import devices, digests, machine, processes, progress

T = TypeVar("T")
DEVICE_SHARE = 0.3  # of an accelerator's memory that decoded images may take by themselves
PLACES = "device", "host", "store", "stream"  # the later, the less memory it takes
HOST_SHARE = 0.5  # likewise of the memory that this process may still take


@dataclass(frozen=True)
class Images:
    """A source at one size, wherever its decoded images live."""

    source: Source
    fetch: pipeline.Fetch | None  # None where the images are on the devices
    store: jax.Array | None  # (N, R, R, 3) uint8 there
    contents: list[bytes] | None  # SHA-256 of each image, where all have been read
    # What is looked up instead, by its name in a batch: (view, rows) -> arrays.
    lookups: Mapping[str, pipeline.Lookup] = field(default_factory=dict)


class Dataset:
    """The images of a dataset, decoded for one view: `dataset[part]` are the `Images` of a part.

    They are decoded when they are first asked for; a "store" on the disk is others' business, and
    here its images are decoded as they are needed.

    Args:
        splits: the dataset.
        view: what they are decoded for, settled.
        place: "auto", or one of PLACES.
        mesh: devices.
        as_tested: whether training images, too, are shown as at test.
    """

    def __init__(
        self, splits: Splits, view: View, *, place: str, mesh: Mesh, as_tested: bool = False
    ):
        self._as_tested = as_tested
        self.splits = splits
        self._view = view
        self._place = place
        self._mesh = mesh
        self._decoded: dict[str, Images] = {}

    def __getitem__(self, part: str) -> Images:
        if part not in self._decoded:
            self._decoded[part] = load_images(
                self.splits.parts[part],
                self.side(part),
                place="stream" if self.streamed else self.place,
                threads=self.threads,
                mesh=self._mesh,
                **self._view.reading,
            )
        return self._decoded[part]

    def decoded(self, source: Records, side: int) -> tuple[np.ndarray, list[bytes]]:
        """Some of the images as `pipeline.decoded` gives them: as they are wherever they live."""
        return pipeline.decoded(source, side, threads=self.threads, **self._view.reading)

    def at_test(self, part: str, rows: np.ndarray) -> Images:
        """Some images of a part, by their rows (M,), as they are shown at test: of what is decoded,
        where that has the size for it, else decoded as they are needed."""
        source, side = Subset(self.splits.parts[part], rows), self._view.test_side
        if self.side(part) != side or self.place == "stream":
            how, threads = self._view.reading, self.threads
            return load_images(
                source, side, place="stream", threads=threads, mesh=self._mesh, **how
            )
        whole = self[part]
        if whole.store is not None:
            some = jax.jit(lambda store: store[rows], out_shardings=devices.replicated(self._mesh))
            return Images(source, None, some(whole.store), None)
        fetch = whole.fetch
        return Images(source, fetch and (lambda chosen: fetch(rows[chosen])), None, None)

    @property
    def judged(self) -> dict[str, Images]:
        """The parts that members are judged on, by name: test, and validation if there is one."""
        return {part: self[part] for part in ("test", "validation") if part in self.splits.parts}

    @cached_property
    def place(self) -> str:
        """Where decoded images live, with "auto" decided by their size: for all processes alike, as
        the one with the least room must."""
        mine = placement(self._place, self.bytes, self._processes_here)
        return PLACES[processes.largest(PLACES.index(mine))]

    @property
    def streamed(self) -> bool:
        """Whether no memory keeps the decoded images."""
        return self.place in ("store", "stream")

    @cached_property
    def threads(self) -> int:
        """That decode in this process."""
        return machine.cores(self._processes_here)

    @property
    def bytes(self) -> int:
        """Memory of all decoded images."""
        return sum(3 * self.side(name) ** 2 * len(p) for name, p in self.splits.parts.items())

    def look(self, suspects: Collection[str] = ()) -> list[LeftOut]:
        """The images that are broken by header and end of their file, the same in all processes,
        of which each looks at its share; files in `suspects` are decoded."""
        parts = self.splits.parts
        found = whole.look(
            list(parts.values()),
            share=slice(jax.process_index(), None, jax.process_count()),
            threads=self.threads,
            orientation=self._view.reading["orientation"],
            banner=self._view.banner,
            suspects=suspects,
            progress=lambda found, count: progress.image_bar("looked at", count, found),
        )
        names = list(parts)
        return _agreed(self.splits, [(names[n], row, str(error)) for n, row, error in found])

    def undecodable(self) -> list[LeftOut]:
        """The images that cannot be decoded, the same in all processes; unless they are streamed,
        all are decoded for it."""
        found: list[tuple[str, int, str]] = []
        if self.streamed:
            return []
        for name, part in self.splits.parts.items():
            try:
                _ = self[name]
            except Broken as broken:
                told = {each.names[0]: str(each) for each in broken.errors if each.names}
                files = ((row, whole.file_of(part, row)) for row in range(len(part)))
                rows = [(row, told[file]) for row, file in files if file in told]
                if not rows:
                    raise
                found += [(name, row, text) for row, text in rows]
        return _agreed(self.splits, found)

    def digests(self) -> dict[str, Any]:
        """What the dataset is known by, see `digests.of_data`; decodes all that is not streamed."""
        return digests.of_data(
            self.splits, {part: self[part].contents for part in self.splits.parts}
        )

    def content(self, part: str) -> str:
        """Digest of a part by what its files hold, which are read if nothing has read them yet;
        from then on `digests` knows the part by them too."""
        images = self[part]
        if images.contents is None:
            images = dataclasses.replace(images, contents=contents(images.source))
            self._decoded[part] = images
        return digests.of_images(images.source, self.splits.classes, images.contents)

    @cached_property
    def _processes_here(self) -> int:
        return processes.processes_here()

    def side(self, part: str) -> int:
        """Of the squares that the images of a part are decoded to."""
        varied = part == "train" and not self._as_tested
        return self._view.resize if varied else self._view.test_side


def _agreed(splits: Splits, mine: list[tuple[str, int, str]]) -> list[LeftOut]:
    """(part, row, what is wrong) of every process, each image once, in order."""
    order = list(splits.parts)
    known: dict[tuple[int, int], str] = {}
    for part, row, text in processes.gathered(mine):
        known.setdefault((order.index(part), row), text)
    return [
        LeftOut(order[number], splits.parts[order[number]].names[row], known[number, row])
        for number, row in sorted(known)
    ]


def placement(chosen: str, total_bytes: int, processes_here: int) -> str:
    """Where decoded images live, with "auto" decided by their size: device, host or store."""
    if chosen != "auto":
        return chosen
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    if device.platform != "cpu" and total_bytes < DEVICE_SHARE * limit:
        return "device"
    free = machine.free_memory(processes_here)
    return "host" if total_bytes < HOST_SHARE * free else "store"


def load_images(
    source: Source,
    side: int,
    *,
    place: str,
    threads: int,
    mesh: Mesh,
    **reading: Unpack[Reading],
) -> Images:
    """The `Images` of a source, squares of `side` pixels; decoded now unless they are streamed.
    `reading` as `images.decode` takes it."""

    def read(how: Callable[..., T]) -> T:
        return how(source, side, threads=threads, **reading)

    if place == "stream":
        return Images(source, read(pipeline.streamed), None, None)
    images, contents = read(pipeline.decoded)
    if place == "host":
        return Images(source, images.__getitem__, None, contents)
    return Images(source, None, devices.replicate(mesh, images), contents)


def contents(source: Records) -> list[bytes]:
    """SHA-256 of each image's bytes, as `load_images` finds them."""
    return [content_digest(source[i]["image"]) for i in range(len(source))]


def train_batches(
    images: Images,
    *,
    seed: int,
    member: int,
    batch_size: int,
    start: int,
    views: range,
    balance: str = "none",
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of a member's batches, see `pipeline.train_batches`; on the host."""
    return pipeline.train_batches(
        images.source,
        images.fetch,
        seed=seed,
        member=member,
        batch_size=batch_size,
        start=start,
        process=jax.process_index(),
        processes=jax.process_count(),
        views=views,
        lookups=images.lookups,
        balance=balance,
    )


def evaluation_batches(
    images: Images, most: int, mesh: Mesh, *, view: int = 0
) -> Iterator[devices.Packed]:
    """Every image of a set once, on the devices, in batches of `evaluation_size`."""
    size = evaluation_size(len(images.source), most, mesh)
    return batches(images, size, mesh, view=view)


def evaluation_size(count: int, most: int, mesh: Mesh) -> int:
    """Images in a batch of a pass over `count`: in no more batches than `most` images a batch need,
    as small as that allows, so that little of the last one is padding; a whole number for each
    device, and one at the least."""
    most = max(most // mesh.size, 1) * mesh.size
    share = -(-count // (-(-count // most) * mesh.size))  # images per batch and device
    return share * mesh.size


def batches(images: Images, size: int, mesh: Mesh, *, view: int = 0) -> Iterator[devices.Packed]:
    """Every image of a set once, on the devices, in batches of `size`, the last one padded.

    `view` is the number of the view in training that is meant, where one is.
    """
    loaded = pipeline.evaluation_batches(
        images.source,
        images.fetch,
        batch_size=size,
        process=jax.process_index(),
        processes=jax.process_count(),
        view=view,
        lookups=images.lookups,
    )
    return ahead(loaded, partial(devices.shard_batch, mesh))


def ahead(batches: Iterator, put: Callable, depth: int = 2) -> Iterator:
    """Keep `depth` batches on their way to the devices while a step runs."""
    queue: deque = deque()
    for batch in batches:
        queue.append(put(batch))
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue
