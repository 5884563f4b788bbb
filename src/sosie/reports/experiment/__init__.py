"""The report of an experiment: one page, Markdown, tables and JSON, all made from one result."""
