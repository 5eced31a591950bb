"""The progress callback that reports nothing."""

from m3et_ros.data.progress import no_progress


def test_without_a_report_the_items_pass_unchanged_and_are_not_read_ahead():
    items = iter([1, 2, 3])
    passed = no_progress(items, 3, 'shards encoded', 'shard')
    assert next(items) == 1 and list(passed) == [2, 3]
