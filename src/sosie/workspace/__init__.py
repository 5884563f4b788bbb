"""The folder that holds characters, models, recipes and the store, and what is found in it."""
