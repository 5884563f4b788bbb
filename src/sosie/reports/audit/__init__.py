"""The audit of a character: one document, as a page, as Markdown and as JSON, in English or French."""
