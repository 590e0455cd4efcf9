"""ROOT's loader of batches, since ROOT 6.40."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootfeed.arguments import one_of, positive
from rootfeed.errors import ArgumentError
from rootfeed.loader import Loader
from rootfeed.root.frame import RDataFrame
from rootfeed.root.saving import save
from rootfeed.root.sides import Rows, Side, rows_of

if TYPE_CHECKING:
    from rootfeed.loader.torch import TorchBatches

__all__ = ["RDataLoader"]


class RDataLoader(Side):
    """Batches of one or several data frames, in ROOT's words.

    A batch is ``x``, ``(x, y)`` with a target, ``(x, y, w)`` with a target and weights, of shapes
    (n, features), (n, targets) and (n, 1), in float32.

    Parameters
    ----------
    rdataframes : RDataFrame or sequence of RDataFrame
        Several are one dataset: one after another unshuffled, else mixed.
    batch_size : int
    batches_in_memory : int
        Changes nothing: rows are mixed over a quarter of the free memory, at most 4 GB, or over all
        of a dataset that fits. To choose the memory, use `rootfeed.Loader`.
    columns : sequence of str, optional
        Features, and target and weights too or not; all columns if left out, which must hold numbers.
    max_vec_sizes : mapping of str to int, optional
        For each vector column, how many elements become columns, ``name_0``, ``name_1``, ...: needed.
    vec_padding : float
        What shorter vectors are filled up with. Longer ones are cut, which a warning counts.
    target : str or sequence of str, optional
        Columns, or single elements of vectors such as ``"name_0"``.
    weights : str
        The same, one. Needs a target.
    shuffle : bool
        A new order in each epoch, also with a seed. False gives the order of frames and files.
    drop_remainder : bool
        Leave out a short last batch.
    set_seed : int
        Of the orders and of `train_test_split`. 0 draws one.
    load_eager : bool
        Keep the whole dataset in memory. `train_test_split` then divides each frame for itself.
    sampling_type : "", "undersampling" or "oversampling"
        Resample two frames, with `load_eager` or without: an epoch has all rows of the smaller one and
        a part of the larger one, others each time, or all of the larger one, and the smaller one's
        repeatedly, each as often as the others to within once.
    sampling_ratio : float
        Rows of the smaller frame to those of the larger one in an epoch, also above 1: undersampling
        gives ``n_small + int(n_small / ratio)`` rows, oversampling ``n_large + int(n_large * ratio)``.
    replacement : bool
        Draw the larger frame's rows with replacement. Changes nothing without undersampling, and
        unshuffled, where rows are taken in turn.

    Raises
    ------
    ArgumentError
        Also a ValueError. Where resampling has too few rows, or an epoch would have no batch, only
        when batches are asked for: before, the loader may be divided.

    Notes
    -----
    Different from ROOT: `num_batches` and the names of columns are known at once, cuts or not;
    validation rows are never resampled; seeds do not repeat one order in each epoch; wrong texts, sizes
    and empty epochs are errors.

    Examples
    --------
    >>> import rootfeed.root as ROOT
    >>> df = ROOT.RDataFrame("events", "data/*.root")  # doctest: +SKIP
    >>> loader = ROOT.Experimental.ML.RDataLoader(df, 1024, target="label")  # doctest: +SKIP
    >>> train, test = loader.train_test_split(test_size=0.2)  # doctest: +SKIP
    >>> for x, y in train.as_torch():  # doctest: +SKIP
    ...     ...
    """

    def __init__(
        self,
        rdataframes: RDataFrame | Iterable[RDataFrame],
        batch_size: int = 64,
        batches_in_memory: int = 10,
        columns: Iterable[str] | None = None,
        max_vec_sizes: Mapping[str, int] | None = None,
        vec_padding: float = 0.0,
        target: str | Iterable[str] | None = None,
        weights: str = "",
        shuffle: bool = True,
        drop_remainder: bool = True,
        set_seed: int = 0,
        load_eager: bool = False,
        sampling_type: str = "",
        sampling_ratio: float = 1.0,
        replacement: bool = False,
    ) -> None:
        positive("batches_in_memory", batches_in_memory)
        rows = rows_of(
            rdataframes,
            batch_size,
            columns,
            max_vec_sizes,
            vec_padding,
            target,
            weights,
            shuffle,
            drop_remainder,
            set_seed,
            load_eager,
            sampling_type,
            sampling_ratio,
            replacement,
        )
        super().__init__(rows)

    def train_test_split(self, test_size: float = 0.2) -> tuple[RDataLoader, RDataLoader]:
        """Divide the rows into two sides; sides can be divided again.

        Unshuffled, the last ``int(test_size * rows)`` rows are the second side; else a random part of so
        many, the same for the same seed. Lazily and shuffled, it is the first side whose share is
        rounded down, as in ROOT. Rows are those that pass the cuts: other cuts divide anew, which
        `rootfeed.Loader.split` does not.

        Parameters
        ----------
        test_size : float
            Share of the second side, between 0 and 1, both excluded.

        Returns
        -------
        tuple of RDataLoader
            Disjoint. The second one uses each of its rows once in an epoch, whatever is resampled.

        Raises
        ------
        ArgumentError
            Where `test_size` is out of range.
        EmptyDatasetError
            Where a side would have no row.
        """
        if isinstance(test_size, bool) or not 0.0 < test_size < 1.0:
            raise ArgumentError(f"test_size must be in (0.0, 1.0), got {test_size!r}.")
        first, second = self._rows.divided(test_size)
        return _of(first), _of(second)

    def as_numpy(self) -> Loader:
        """Return the batches as NumPy arrays: each iteration over what is returned is the next epoch.

        Raises
        ------
        ArgumentError
            Where an epoch would have no batch, or `sampling_ratio` is too low.
        """
        return self._rows.loader

    def as_torch(self, device: Any = None) -> TorchBatches:
        """Return the batches as torch tensors, on a device if one is named: see `as_numpy`."""
        return self._rows.loader.torch(device)

    def as_tensorflow(self) -> Any:
        """Return the batches as a ``tf.data.Dataset``: see `as_numpy`.

        A short last batch has as many rows as there are: none of zeros.
        """
        return self._rows.loader.tensorflow()

    def as_jax(self, device: Any = None) -> Any:
        """Return the batches as JAX arrays, on a device if one is named: see `as_numpy`."""
        return self._rows.loader.jax(device)

    def save(self, name: str, file: str | Path, *, output_format: str = "ttree") -> None:
        """Write this side's rows into a file: each once, in the order of frames and files.

        One column for each of `columns`, of its own type: elements of vectors are columns.

        Parameters
        ----------
        name : str
            Of the tree or ntuple.
        file : str or Path
            Replaced, when all is written.
        output_format : "ttree" or "rntuple"

        Raises
        ------
        ArgumentError
            Where it is one of the files that are read.

        Warns
        -----
        PrecisionWarning
            Where integers above 2^53 were rounded.
        """
        save(self._rows, name, file, one_of("output_format", output_format, ("ttree", "rntuple")))

    def __repr__(self) -> str:
        return f"<RDataLoader over {self._rows.plain!r}>"


def _of(rows: Rows) -> RDataLoader:
    made = object.__new__(RDataLoader)
    Side.__init__(made, rows)
    return made
