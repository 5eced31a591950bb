"""Files of Rerun, read back for tests."""


def read_rrd(path):
    """Return the columns of each entity of a file, as lists of one value per row; stamps are in ns."""
    from rerun.chunk import RrdReader

    entities = {}
    for chunk in RrdReader(path).stream().to_chunks():
        columns = entities.setdefault(str(chunk.entity_path), {})
        batch = chunk.to_record_batch()
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            stamps = str(values.type).startswith('timestamp')
            columns.setdefault(name, []).extend((values.cast('int64') if stamps else values).to_pylist())
    return entities
