"""The page of a comparison, in English and French."""
