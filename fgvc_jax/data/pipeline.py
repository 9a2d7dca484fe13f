"""From sources to batches of numpy arrays, with grain, which is imported where batches are made:
steps can be built, and measured, without it.

The global training batch at step t is a pure function of (seed, member, t): a process loads only
its own rows of it, and resuming is indexing.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from fgvc_jax.data.images import content_digest, decode, refuse
from fgvc_jax.data.records import Records
from fgvc_jax.data.sources import Source
from fgvc_jax.data.steady import Steady
from fgvc_jax.data.view import Reading
from fgvc_jax.utils.errors import UserError

if TYPE_CHECKING:
    import grain

Fetch = Callable[[np.ndarray], np.ndarray]
Lookup = Callable[[int, np.ndarray], Any]  # (view, rows) -> an array, or several by name
_NOTHING: Mapping[str, Lookup] = {}
AHEAD_BYTES = 2**30  # of batches that are loaded ahead of the step
AHEAD_BATCHES = 2, 8  # at the least, whatever their size, and at the most


def streamed(source: Source, size: int, *, threads: int, **reading: Unpack[Reading]) -> Fetch:
    """rows (n,) -> (n, size, size, 3) uint8, decoded anew each time by so many threads; a UserError
    where a file was replaced meanwhile. `reading` as `images.decode` takes it."""
    pool, steady = ThreadPoolExecutor(threads, thread_name_prefix="decode"), Steady(source)

    def fetch(rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), size, size, 3), np.uint8)

        def fill(index: int) -> None:
            images[index] = decode(steady[int(rows[index])], size, **reading)

        for _ in pool.map(fill, range(len(rows))):
            pass
        return images

    return fetch


def decoded(
    source: Records, size: int, *, threads: int, **reading: Unpack[Reading]
) -> tuple[np.ndarray, list[bytes]]:
    """All images of a source, decoded once: (N, size, size, 3) uint8, and what they are: the
    SHA-256 of each record's encoded bytes (`images.content_digest`). A UserError lists all that
    cannot be used. `reading` as `images.decode` takes it."""
    images = np.empty((len(source), size, size, 3), np.uint8)

    def fill(row: int) -> bytes | UserError:
        try:
            record = source[row]
            images[row] = decode(record, size, **reading)
        except UserError as error:
            return error
        return content_digest(record["image"])

    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        found = list(pool.map(fill, range(len(source))))
    refuse([each for each in found if isinstance(each, UserError)], len(source))
    return images, [each for each in found if isinstance(each, bytes)]


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Full batches in an epoch. Raises a UserError when there are fewer images than one batch."""
    if len(source) < batch_size:
        raise UserError(
            f"{len(source)} training images do not fill one batch of {batch_size}: "
            "lower --batch-size"
        )
    return len(source) // batch_size


def train_batches(
    source: Source,
    fetch: Fetch | None,
    *,
    seed: int,
    member: int,
    batch_size: int,
    start: int,
    process: int,
    processes: int,
    views: range,
    lookups: Mapping[str, Lookup] = _NOTHING,
    balance: str = "none",
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of the global batches from step `start` on, without end.

    Every epoch is another permutation of the images, or of those that `epoch_images` gives; its
    last partial batch is dropped, as torch's drop_last does.

    Args:
        source: the training images.
        fetch: rows -> images; None leaves the images to whoever has them (on the device).
        seed: of the run.
        member: number of the network; each sees another order.
        batch_size: of the global batch.
        start: step of the first batch.
        process: index of this process.
        processes: their number; divides batch_size.
        views: numbers of the views of an image; the epochs go through them again and again.
        lookups: by its name in the batch, what was computed once for each view.
        balance: "none", or of the classes in an epoch, see `epoch_images`. An image that comes
            again in an epoch is seen in the views of the epochs that follow.

    Yields:
        {"row", "label", "id", "view": (b,) int32, "image": (b, R, R, 3) uint8}, b = batch_size /
        processes; and what is looked up.

    Raises:
        UserError: when there are fewer images than one batch.
    """
    import grain

    per_epoch = steps_per_epoch(source, batch_size)
    grain_seed = int(np.random.SeedSequence([seed, member]).generate_state(1)[0])
    order = grain.MapDataset.range(len(source)).seed(grain_seed).shuffle()
    order = order.batch(batch_size, drop_remainder=True).repeat()
    local = _share(batch_size, process, processes)
    epoch_of = functools.lru_cache(2)(
        lambda epoch: epoch_images(source.labels, balance, seed, member, epoch)
    )

    numbers = np.array(views, np.int32)

    def load(step: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        epoch, into = divmod(step, per_epoch)
        again = np.zeros(batch_size, np.int32)  # the how-manieth time of an image in its epoch
        if balance != "none":
            rows, again = (
                each[into * batch_size : (into + 1) * batch_size] for each in epoch_of(epoch)
            )
        batch = _load(source, fetch, np.asarray(rows, np.int32)[local])
        batch["view"] = numbers[(epoch + again[local]) % len(numbers)]
        return batch | {
            name: _looked_up(look, batch["view"], batch["row"]) for name, look in lookups.items()
        }

    return _threaded(order.map_with_index(load)[start:])


def epoch_images(
    labels: np.ndarray, balance: str, seed: int, member: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which images an epoch shows where classes are balanced, pure in its arguments.

    A class of n images has a share of the N in proportion to n^p, p = 1/2 ("sqrt") or 0 ("equal");
    what is no whole number is rounded up in so many epochs as its fraction says. Its images come
    equally often but for one, and which come once more changes with the epoch.

    Args:
        labels: (N,) int.
        balance: "sqrt" or "equal".
        seed: of the run.
        member: its number.
        epoch: from 0.

    Returns:
        ((N,) rows in the epoch's order, (N,) the how-manieth time each is there, from 0).
    """
    rng = np.random.default_rng([seed, member, epoch])
    of_class = np.argsort(labels, kind="stable")
    classes, first, counts = np.unique(labels[of_class], return_index=True, return_counts=True)
    shares = counts ** {"sqrt": 0.5, "equal": 0.0}[balance]
    exact = len(labels) * shares / shares.sum()
    # Systematic sampling: each class has its whole number or one more, and all together N.
    ends = np.floor(np.concatenate([[0], np.cumsum(exact)]) + rng.random())
    ends[-1] = ends[0] + len(labels)
    rows, again = [], []
    for begin, count, number in zip(first, counts, np.diff(ends).astype(int), strict=True):
        own = rng.permutation(of_class[begin : begin + count])
        rows.append(np.resize(own, number))
        again.append(np.arange(number) // count)
    order = rng.permutation(len(labels))
    return np.concatenate(rows)[order], np.concatenate(again)[order].astype(np.int32)


def _looked_up(look: Lookup, views: np.ndarray, rows: np.ndarray) -> Any:
    """What was computed once for the views (b,) of images (b,): an array, or several by name."""
    if (views == views[0]).all():
        return look(int(views[0]), rows)
    parts = {view: np.flatnonzero(views == view) for view in np.unique(views)}
    found = {view: look(int(view), rows[places]) for view, places in parts.items()}
    back = np.argsort(np.concatenate(list(parts.values())))

    def joined(*arrays: Any) -> Any:
        if isinstance(arrays[0], Mapping):
            return {name: joined(*(each[name] for each in arrays)) for name in arrays[0]}
        return np.concatenate(arrays)[back]

    return joined(*found.values())


def evaluation_batches(
    source: Source,
    fetch: Fetch | None,
    *,
    batch_size: int,
    process: int,
    processes: int,
    view: int = 0,
    lookups: Mapping[str, Lookup] = _NOTHING,
) -> Iterator[dict[str, np.ndarray]]:
    """Every image once, in order; the last batch is padded with masked copies of the first image.

    Args:
        view: number of the view, the same for all.
        lookups: see `train_batches`.

    Yields:
        As `train_batches`, with "mask": (b,) bool, False for padding.
    """
    import grain

    local = _share(batch_size, process, processes)

    def load(index: int) -> dict[str, np.ndarray]:
        rows = np.arange(index * batch_size, (index + 1) * batch_size, dtype=np.int32)[local]
        mask = rows < len(source)
        batch = _load(source, fetch, np.where(mask, rows, 0))
        looked_up = {name: look(view, batch["row"]) for name, look in lookups.items()}
        return batch | looked_up | {"mask": mask, "view": np.full(len(mask), view, np.int32)}

    return _threaded(grain.MapDataset.range(-(-len(source) // batch_size)).map(load))


def _share(batch_size: int, process: int, processes: int) -> slice:
    """The contiguous rows of a global batch that belong to one process."""
    share = batch_size // processes
    return slice(process * share, (process + 1) * share)


def _load(source: Source, fetch: Fetch | None, rows: np.ndarray) -> dict[str, np.ndarray]:
    batch = {"row": rows, "label": source.labels[rows], "id": source.ids[rows]}
    return batch if fetch is None else {**batch, "image": fetch(rows)}


def _threaded(batches: "grain.MapDataset") -> Iterator[dict[str, np.ndarray]]:
    """The batches of a grain.MapDataset in order, loaded ahead by threads within `AHEAD_BYTES`.

    The first one, loaded before the others, tells their size.
    """
    import grain

    first = batches[0]
    fitting = AHEAD_BYTES // _bytes(first)
    least, most = AHEAD_BATCHES
    ahead = min(max(fitting, least), most)
    options = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
    yield first
    yield from batches[1:].to_iter_dataset(options)


def _bytes(batch: Mapping[str, Any]) -> int:
    return sum(
        _bytes(value) if isinstance(value, Mapping) else value.nbytes for value in batch.values()
    )
