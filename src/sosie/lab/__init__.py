"""The lab: statistics and reports made from the record."""
