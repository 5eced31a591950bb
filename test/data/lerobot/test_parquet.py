"""Parquet files: their schema is that of LeRobot 0.4.4, and damaged ones are refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot import parquet
from m3et_ros.data.lerobot.parquet import column_kind, column_names, data_schema, open_table, read_columns, write_tasks
from m3et_ros.data.lerobot.schema import Feature


def test_tasks_have_the_index_that_pandas_gives_them(tmp_path):
    write_tasks(tmp_path / 'tasks.parquet', ['', 'pick'])
    table = pq.read_table(tmp_path / 'tasks.parquet')
    assert table.to_pydict() == {'task_index': [0, 1], 'task': ['', 'pick']}
    assert json.loads(table.schema.metadata[b'pandas'])['index_columns'] == ['task']


def test_columns_have_the_types_of_lerobot():
    schema = data_schema(
        {
            'seen': Feature('image', (4, 4, 3)),
            'film': Feature('video', (4, 4, 3)),
            'action': Feature('float32', (2,)),
            'timestamp': Feature('float32', (1,)),
            'ros.has_depth': Feature('bool', (1,)),
        }
    )
    assert schema.names == ['seen', 'action', 'timestamp', 'ros.has_depth']
    assert schema.field('seen').type == pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    assert schema.field('action').type == pa.list_(pa.float32(), 2)
    assert schema.field('timestamp').type == pa.float32() and schema.field('ros.has_depth').type == pa.bool_()
    features = json.loads(schema.metadata[b'huggingface'])['info']['features']
    assert features['seen'] == {'_type': 'Image'} and features['action']['length'] == 2
    assert features['timestamp'] == {'dtype': 'float32', '_type': 'Value'}


def test_the_kind_of_a_column_follows_its_feature():
    shapes = {
        'picture': ('image', (4, 4, 3)),
        'numbers': ('float32', (2,)),
        'int': ('int64', (1,)),
        'bool': ('bool', (1,)),
    }
    for kind, (dtype, shape) in shapes.items():
        assert column_kind(Feature(dtype, shape)) == kind


@pytest.mark.parametrize(
    ('columns', 'words'), [({'n': 'text'}, 'its n is int'), ({'m': 'int'}, 'no such column')], ids=['type', 'missing']
)
def test_columns_that_are_not_there_are_refused(tmp_path, columns, words):
    pq.write_table(pa.table({'n': [1], 't': ['x'], 'l': [[1.5]]}), tmp_path / 'a.parquet')
    assert read_columns(tmp_path / 'a.parquet', {'n': 'int', 't': 'text', 'l': 'numbers'}) == {
        'n': [1],
        't': ['x'],
        'l': [[1.5]],
    }
    assert column_names(tmp_path / 'a.parquet') == ['n', 't', 'l']
    with pytest.raises(InputError, match=words) as refused:
        read_columns(tmp_path / 'a.parquet', columns)
    assert refused.value.reason == 'lerobot_data'


def test_damaged_missing_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / 'a.parquet'
    with pytest.raises(InputError, match='there is no file') as refused:
        read_columns(path, {})
    assert refused.value.reason == 'lerobot_missing'
    with pytest.raises(InputError, match='a folder'):
        read_columns(tmp_path, {})
    pq.write_table(pa.table({'n': list(range(1000))}), path)
    whole = path.read_bytes()
    for data in (b'', b'PAR1', whole[:-20], whole[: len(whole) // 2], b'PAR1' + bytes(500) + whole[-200:]):
        path.write_bytes(data)
        with pytest.raises(InputError) as refused:
            read_columns(path, {'n': 'int'})
        assert refused.value.reason == 'lerobot_data', data[:8]


def test_files_with_more_rows_than_real_ones_are_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / 'a.parquet'
    pq.write_table(pa.table({'n': [1, 2, 3]}), path)
    for limit, value in (('MAX_ROWS', 3), ('MAX_GROUP', 10_000)):
        monkeypatch.setattr(parquet, limit, value)
    with open_table(path, {}):
        pass
    for limit, value in (('MAX_ROWS', 2), ('MAX_GROUP', 10)):
        monkeypatch.setattr(parquet, limit, value)
        with pytest.raises(InputError, match='more rows or bytes'), open_table(path, {}):
            pass
        monkeypatch.setattr(parquet, limit, 10**9)


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    with pytest.raises(InputError, match=r'm3et_ros\[lerobot\]') as refused:
        parquet.arrow()
    assert refused.value.reason == 'needs_extra'
