"""`m3et doctor`: what is installed, what would be used, what is wrong and how to mend it."""

from typing import Any

from m3et_ros.cli.output import Json, emit, say


def doctor(as_json: Json = False) -> int:
    """Say what is installed, what is wrong and how to mend it; exit code 1 if something needed is broken."""
    from m3et_ros.cli.doctor.probes import examine

    found, findings = examine()
    healthy = not any(finding.level == 'error' for finding in findings)
    if as_json:
        emit(found | {'healthy': healthy, 'findings': [vars(finding) for finding in findings]})
        return 0 if healthy else 1
    for topic, facts in found.items():
        say(topic)
        for name, value in facts.items():
            say(f'  {name.replace("_", " "):<18} {_words(name, value)}')
    say()
    for finding in findings:
        say(f'{finding.level.upper()}: {finding.what}. Fix: {finding.fix}.')
    errors = sum(finding.level == 'error' for finding in findings)
    say('Everything needed works.' if healthy else f'Broken and needed: {errors}.')
    return 0 if healthy else 1


def _words(name: str, value: Any) -> str:
    """A fact on one line, or on several where it is a list."""
    if name == 'kernels':
        return ('\n' + ' ' * 21).join(f'{k["op"]}: {k["kernel"]} ({k["reason"]})' for k in value)
    if name == 'shared_memory' and value:
        return f'{value["free"] / 2**20:.0f} of {value["bytes"] / 2**20:.0f} MB free'
    if isinstance(value, dict) and 'for' in value:
        return value['version'] or f'not installed; it serves {value["for"]}'
    if isinstance(value, dict):
        return '; '.join(f'{key}: {item}' for key, item in value.items()) or 'none'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, list):
        return ', '.join(map(str, value)) or 'none'
    return 'none' if value is None else str(value)
