"""The pages of the documentation: each has its place in the site, and every link between them leads somewhere."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.rglob('*.md'))
LINK = re.compile(r'\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)')


def leaves(entries):
    """Return the pages of a part of the navigation."""
    values = [value for entry in entries for value in entry.values()]
    return [page for value in values for page in (leaves(value) if isinstance(value, list) else [value])]


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r'^#+ (.+)$', re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.replace('`', '')).strip().lower().replace(' ', '-') for heading in headings}


def test_every_page_has_one_place_in_the_site():
    listed = leaves(yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav'])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


@pytest.mark.parametrize('page', [ROOT / 'README.md', *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_page_and_a_heading(page):
    lost = []
    for target, anchor in LINK.findall(page.read_text()):
        path = (page.parent / target).resolve() if target else page
        # The site holds docs/ alone.
        if not path.exists() or (page != ROOT / 'README.md' and not path.is_relative_to(DOCS)):
            lost.append(target)
        elif anchor and path.suffix == '.md' and anchor not in anchors(path):
            lost.append(f'{target}#{anchor}')
    assert lost == []


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    ('page', 'pattern'),
    [
        ('package.xml', r'<version>(\d+\.\d+)'),
        ('CITATION.cff', r'^version: (\d+\.\d+)'),
        ('CHANGELOG.md', r'^## \[(\d+\.\d+)'),
        ('docs/releases.md', r'^## (\d+\.\d+)'),
        ('SECURITY.md', r'^\| (\d+\.\d+)\.x \| yes'),
    ],
    ids=['package', 'citation', 'changelog', 'release notes', 'security'],
)
def test_a_page_names_the_version_that_setup_cfg_has(page, pattern):
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    newest = re.search(pattern, (ROOT / page).read_text(), re.MULTILINE)[1]
    assert config['metadata']['version'].startswith(f'{newest}.')
