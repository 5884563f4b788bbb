"""The page of a panel, in English and French."""
