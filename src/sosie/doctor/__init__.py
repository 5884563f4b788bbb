"""The doctor: one check a file, each returns Findings."""
