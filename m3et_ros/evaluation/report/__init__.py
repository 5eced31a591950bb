"""Reports: metrics.json, CSV, Markdown, HTML, charts and pictures."""
