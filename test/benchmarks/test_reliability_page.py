"""docs/reliability.md quotes the results of its scripts and names tests that exist."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'reliability.md').read_text(encoding='utf-8')


def result(name):
    return json.loads((ROOT / 'benchmarks' / 'results' / f'{name}.json').read_text())


def rows(first):
    """Return the two columns of the table whose first heading is given."""
    table = PAGE.split(f'| {first} | |\n|---|---|\n')[1].split('\n\n')[0]
    return dict([cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines())


def test_every_named_test_exists():
    named = re.findall(r'`(test/[\w/]+\.py)::(\w+)`', PAGE)
    assert len(named) > 30
    for file, name in set(named):
        functions = {node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, 'name')}
        assert name in functions, f'{file} has no {name}'


def test_the_figures_of_the_fuzz_are_those_of_the_run():
    found, quoted = result('fuzz'), rows('Fuzz')
    rss = [block['rss_mib'] for block in found['blocks']]
    lost = found['requests_by_reply'].get('lost', 0)
    refused = sum(n for key, n in found['counters_of_the_node'].items() if key.startswith('dropped/'))
    assert quoted == {
        'Time': f'{found["minutes"]:.1f} min, {len(rss)} blocks',
        'Messages sent, on 8 topics': f'{found["messages"]:,}',
        'Requests sent, to 20 interfaces': f'{found["requests"]:,}, of which {lost} lost',
        'Files read': f'{found["files"]:,}',
        'Refusals and drops that the node counted': f'{refused:,}, for {reasons(found)} reasons',
        'Deaths of the node, of the reader of files': f'{len(found["deaths_of_the_node"])}, '
        f'{len(found["deaths_of_the_reader"])}',
        'Tracebacks in the log, other faults': f'{found["tracebacks_in_the_log"]}, {len(found["faults"])}',
        'Blocks after which the good frame and question were served': f'{found["blocks_that_held"]} of {len(rss)}',
        'Memory before, after the first quarter, at most, at the end': f'{found["held_before"]["rss_mib"]:.0f}, '
        f'{rss[len(rss) // 4]:.0f}, {max(rss):.0f}, {rss[-1]:.0f} MiB',
        'Threads, descriptors': f'{span(found, "threads")}, {span(found, "descriptors")}',
    }
    assert len(found['messages_by_topic']) == 8 and found['interfaces'] == 20


def reasons(found):
    return sum(key.startswith('dropped/') for key in found['counters_of_the_node'])


def span(found, key):
    values = sorted({block[key] for block in found['blocks']})
    return f'{values[0]} to {values[-1]}' if len(values) > 1 else f'always {values[0]}'


def test_the_figures_of_the_soak_are_those_of_the_run():
    found, quoted = result('soak'), rows('Soak, loops, swaps, kills')
    soak, loops, swaps, kills = (found[part] for part in ('soak', 'loops', 'swaps', 'kills'))
    growth = soak['growth_mib']
    assert quoted == {
        'Soak': f'{soak["minutes"]:g} min, {soak["frames_served"]:,} frames, {soak["questions_answered"]} of '
        f'{soak["questions"]} questions answered',
        'Growth of memory': f'{growth["percent_per_hour"]:.0f} % an hour ({growth["percent_low"]:.0f} to '
        f'{growth["percent_high"]:.0f})',
        'Threads, descriptors': ', '.join(
            f'always {v[0]}' if len(v) == 1 else f'{v[0]} to {v[-1]}' for v in (soak['threads'], soak['descriptors'])
        ),
        'Up/down loops': f'{loops["loops"]}, {loops["failures"]} failures, memory {loops["first"]["rss_mib"]:.0f}, '
        f'{loops["middle"]["rss_mib"]:.0f}, {loops["last"]["rss_mib"]:.0f} MiB (first, middle, last)',
        'Model swaps under 30 Hz': f'{swaps["swaps"]}, {swaps["questions"]} questions, {swaps["lost"]} lost, '
        f'{len(swaps["wrong"])} wrong, memory {swaps["first"]["rss_mib"]:.0f} to {swaps["last"]["rss_mib"]:.0f} MiB',
        'Longest time without a served frame while models were swapped': f'{swaps["longest_gap_s"]:.1f} s',
        'Node killed with signal 9: seconds until it answers': ', '.join(
            f'{s:.1f}' for s in kills['seconds_until_an_answer']
        ),
    }
