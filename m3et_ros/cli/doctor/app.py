"""`m3et doctor`: report what is installed, which parts would serve, and how to fix what is wrong."""

from typing import Any

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line


def doctor(as_json: Json = False) -> int:
    """Report what is installed, what is wrong and how to fix it; exit code 1 if something needed is broken."""
    from m3et_ros.cli.doctor.probes import examine

    facts, findings = examine()
    errors = sum(finding.level == 'error' for finding in findings)
    if as_json:
        print_json(facts | {'healthy': not errors, 'findings': [vars(finding) for finding in findings]})
        return 1 if errors else 0
    for topic, values in facts.items():
        print_line(topic)
        for name, value in values.items():
            label = name if name.isupper() else name.replace('_', ' ')
            print_line(f'  {label:<18} {format_fact(name, value)}')
    print_line()
    for finding in findings:
        print_line(f'{finding.level.upper()}: {finding.what}. Fix: {finding.fix}.')
    print_line(f'Broken and needed: {errors}.' if errors else 'Everything needed works.')
    return 1 if errors else 0


def format_fact(name: str, value: Any) -> str:
    """Return a fact of a probe as text: one line, or one for each kernel.

    Args:
        name: name of the fact.
        value: what the probe found.
    """
    if name == 'kernels' and isinstance(value, list):
        return ('\n' + ' ' * 21).join(f'{k["op"]}: {k["kernel"]} ({k["reason"]})' for k in value)
    if name == 'shared_memory' and value:
        return f'{value["free"] / 2**20:.0f} of {value["bytes"] / 2**20:.0f} MB free'
    if isinstance(value, dict) and 'for' in value:
        return value['version'] or f'not installed; used for {value["for"]}'
    if isinstance(value, dict):
        return '; '.join(f'{key}: {item}' for key, item in value.items()) or 'none'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, list):
        return ', '.join(map(str, value)) or 'none'
    return 'none' if value is None else str(value)
