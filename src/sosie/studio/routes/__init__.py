"""The routes of the page, a file a subject. No request names a file: only digests, numbers and known names."""
