"""What `load_data` may return in place of an array, and the errors for what it may not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.trial import FailureClass

#: The parts of `(x, y, sample_weight)`, as named in messages.
ROLES = ("inputs", "targets", "sample weights")
_ENCODE = (
    "encode them as numbers, as in numpy.unique(labels, return_inverse=True)[1] or "
    "keras.layers.StringLookup(vocabulary=...)(labels) - 1"
)
_FROM_VALUES = "convert it with numpy.asarray"
_FROM_ROWS = "let a tf.data.Dataset.from_generator or a keras.utils.PyDataset give its batches"


def to_array(part: str, role: str, value: Any) -> NDArray[Any]:
    """Convert a value to the array that Keras makes of it.

    Args:
        part: train, validation or test.
        role: one of ROLES.
        value: what the job returned.

    Returns:
        An array unchanged, since large data is not copied. A pandas Series becomes one column.

    Raises:
        JobError: Keras could not train on it.
    """
    what = f"the {role} of load_data's {part!r}"
    if hasattr(value, "tocsr") and hasattr(value, "nnz"):
        raise wrong(f"{what} must be dense, got a SciPy sparse matrix; call .toarray() on it")
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)):
        remedy = "to_tensor()" if isinstance(value, tf.RaggedTensor) else "tf.sparse.to_dense"
        raise wrong(f"{what} must be dense, got a {type(value).__name__}; use {remedy}, or a tf.data.Dataset")
    if isinstance(value, (int, float, str, bytes, type(None))) or not hasattr(value, "__len__"):
        remedy = _FROM_ROWS if hasattr(value, "__next__") else _FROM_VALUES
        raise wrong(
            f"load_data's {part!r} must be arrays, dicts and tuples of arrays, a tf.data.Dataset or a "
            f"keras.utils.PyDataset, got {_kind(value)}; {remedy}"
        )
    try:
        array = np.asarray(value)
    except ValueError as exc:
        raise wrong(f"{what} must have rows of one shape, got ragged ones ({exc}); {_PAD}") from exc
    if array.ndim == 0:
        raise wrong(f"load_data's {part!r} must have rows, got {_kind(value)} without a first axis")
    if array.dtype.hasobject and (cast := _cast_table(value)) is not None:
        return cast
    _check_elements(what, role, value, array)
    return array[:, None] if _is_series(value) else array


def _is_series(value: Any) -> bool:
    """Whether Keras makes one column of it."""
    return type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "Series"


def _cast_table(value: Any) -> NDArray[Any] | None:
    """Cast a DataFrame with columns of several kinds, such as those of `get_dummies`, as Keras does.

    It casts all of them to its own float where one is a float of another width.
    """
    floatx = keras.config.floatx()
    dtypes = getattr(getattr(value, "dtypes", None), "values", ())
    if not any(getattr(dtype, "kind", "") == "f" and dtype.name != floatx for dtype in dtypes):
        return None
    try:
        array: NDArray[Any] = value.astype(floatx).to_numpy()
    except (TypeError, ValueError):
        return None
    return None if array.dtype.hasobject else array


_PAD = "pad them to one length, as in keras.utils.pad_sequences"


def _check_elements(what: str, role: str, value: Any, array: NDArray[Any]) -> None:
    kinds = {type(one) for one in array.flat[:1000]} if array.dtype.hasobject else set()
    text = array.dtype.kind in "US" or (bool(kinds) and kinds <= {str, bytes, np.str_, np.bytes_})
    if text:
        if role == "inputs":  # for a model that begins with TextVectorization or StringLookup
            return
        example = str(array.flat[0])[:40] if array.size else ""
        raise wrong(f"{what} must be numbers, got text such as {example!r}; {_ENCODE}")
    if not kinds:
        return
    if any(issubclass(kind, (list, tuple, np.ndarray)) for kind in kinds):
        raise wrong(f"{what} must have rows of one shape, got an array of {_names(kinds)}; {_PAD}")
    columns = _mixed_columns(value)
    where = f" in the columns {columns}" if columns else ""
    raise wrong(
        f"{what} must be numbers of one kind, got an array of objects ({_names(kinds)}){where}; "
        "convert them, as in .astype('float32'), and encode text as numbers"
    )


def _mixed_columns(value: Any) -> str:
    dtypes = getattr(value, "dtypes", None)
    if dtypes is None or not hasattr(dtypes, "items"):
        return ""
    found = [f"{name!r} ({dtype})" for name, dtype in dtypes.items() if not _is_plain_number(dtype)]
    return ", ".join(found[:5])


def _is_plain_number(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "iuf"


def _names(kinds: set[type]) -> str:
    return ", ".join(sorted({kind.__name__ for kind in kinds}))


def check_spec(part: str, dataset: Any) -> None:
    """Refuse a `tf.data.Dataset` whose targets are text.

    Raises:
        JobError: they are.
    """
    spec = getattr(dataset, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) < 2:
        return
    if any(getattr(leaf, "dtype", None) == tf.string for leaf in keras.tree.flatten(spec[1])):
        raise wrong(f"the targets of load_data's {part!r} must be numbers, got text (tf.string); {_ENCODE}")


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def wrong(message: str) -> JobError:
    """Return the failure of a job that returns something that cannot be trained on."""
    return JobError(FailureClass.USER, message)
