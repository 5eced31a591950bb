"""Parquet files of LeRobot data sets: opened with limits, read in small blocks, written with the metadata of others.

pyarrow is imported where it is needed; it belongs to the extra [lerobot].
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular
from m3et_ros.data.lerobot.schema import Feature

MAX_ROWS = 2**26
"""Most rows of a file: three weeks at 30 frames per second."""
MAX_GROUP = 2**32
"""Most bytes of an unpacked row group, of which a part is in memory at a time."""
FIX = 'fetch or write the data set again'


def arrow() -> Any:
    """Return the module pyarrow, with its parquet.

    Raises:
        InputError: 'needs_extra', it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            'needs_extra', "LeRobot data sets need pyarrow, which is not installed; run pip install 'm3et_ros[lerobot]'"
        ) from error
    return pyarrow


@contextmanager
def open_table(path: Path, columns: Mapping[str, str]) -> Iterator[Any]:
    """Open a parquet file.

    Args:
        path: the file.
        columns: names of columns that it must have, and their types by _kind.

    Yields:
        A pyarrow.parquet.ParquetFile.

    Raises:
        InputError: 'lerobot_missing', there is no such file; 'lerobot_data', it is damaged, lacks a column, has one of
            another type, or is larger than any real one; also where reading in the block fails.
    """
    pyarrow = arrow()
    check_regular(path, FIX)
    if not path.exists():
        raise InputError('lerobot_missing', f'there is no file {path}, which meta/ speaks of; {FIX}')
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            facts = file.metadata
            groups = (facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
            if facts.num_rows > MAX_ROWS or max(groups, default=0) > MAX_GROUP:
                raise InputError('lerobot_data', f'{path} claims more rows or bytes than are read; {FIX}')
            for name, kind in columns.items():
                index = file.schema_arrow.get_field_index(name)
                found = None if index < 0 else _kind(pyarrow, file.schema_arrow.field(index).type)
                if found != kind:
                    has = 'has no such column' if found is None else f'its {name} is {found}'
                    raise InputError('lerobot_data', f'{path} needs {name} as {kind} and {has}; {FIX}')
            yield file
    except InputError:
        raise
    # pyarrow raises its own errors, and OSError and ValueError, on damaged bytes.
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        why = ' '.join(str(error).split())[:200]
        raise InputError('lerobot_data', f'{path} is damaged ({type(error).__name__}: {why}); {FIX}') from error


def read_columns(path: Path, columns: Mapping[str, str]) -> dict[str, list[Any]]:
    """Read whole columns of a small table; arguments and errors are those of open_table."""
    with open_table(path, columns) as file:
        return file.read(columns=list(columns)).to_pydict()


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a table; errors are those of open_table."""
    with open_table(path, {}) as file:
        return list(file.schema_arrow.names)


def _kind(pyarrow: Any, type: Any) -> str:
    """Return the kind of a column: 'int', 'float', 'bool', 'text', 'texts', 'numbers', 'picture' or Arrow's name."""
    types = pyarrow.types
    if types.is_integer(type):
        return 'int'
    if types.is_floating(type):
        return 'float'
    if types.is_boolean(type):
        return 'bool'
    if types.is_string(type) or types.is_large_string(type):
        return 'text'
    if types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type):
        inner = _kind(pyarrow, type.value_type)
        return {'text': 'texts', 'int': 'numbers', 'float': 'numbers'}.get(inner, str(type))
    if types.is_struct(type) and type.get_field_index('bytes') >= 0:
        return 'picture'
    return str(type)


def column_kind(feature: Feature) -> str:
    """Return the kind that the column of a feature has in a parquet file."""
    if feature.dtype == 'image':
        return 'picture'
    if feature.shape != (1,):
        return 'numbers'
    return 'bool' if feature.dtype == 'bool' else feature.dtype.rstrip('0123456789')


def data_schema(features: Mapping[str, Feature]) -> Any:
    """Return the Arrow schema of data files, with the metadata from which `datasets` makes pictures."""
    pyarrow = arrow()
    fields = []
    entries: dict[str, Any] = {}
    for key, feature in features.items():
        if feature.dtype == 'video':
            continue
        if feature.dtype == 'image':
            fields.append((key, pyarrow.struct([('bytes', pyarrow.binary()), ('path', pyarrow.string())])))
            entries[key] = {'_type': 'Image'}
            continue
        value, entry = pyarrow.type_for_alias(feature.dtype), {'dtype': feature.dtype, '_type': 'Value'}
        (length,) = feature.shape
        # `datasets` from version 2 on reads the name Sequence.
        entries[key] = entry if length == 1 else {'feature': entry, 'length': length, '_type': 'Sequence'}
        fields.append((key, value if length == 1 else pyarrow.list_(value, length)))
    return pyarrow.schema(fields, {'huggingface': json.dumps({'info': {'features': entries}})})


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write tasks.parquet, which pandas reads as a table of task_index with the tasks as its index.

    Raises:
        OSError: it cannot be written.
    """
    pyarrow = arrow()
    table = pyarrow.table(
        {
            'task_index': pyarrow.array(range(len(tasks)), pyarrow.int64()),
            'task': pyarrow.array(tasks, pyarrow.string()),
        }
    )
    names = (('task_index', 'int64', 'int64'), ('task', 'unicode', 'object'))
    columns = [
        {'name': name, 'field_name': name, 'pandas_type': kind, 'numpy_type': stored, 'metadata': None}
        for name, kind, stored in names
    ]
    facts = {'index_columns': ['task'], 'column_indexes': [], 'columns': columns, 'pandas_version': '2.0.0'}
    pyarrow.parquet.write_table(table.replace_schema_metadata({'pandas': json.dumps(facts)}), path)
