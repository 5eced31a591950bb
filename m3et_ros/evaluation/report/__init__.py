"""Reports for people: HTML, Markdown, charts and contact sheets."""
