"""The studio: the page where a creator lives. It calls `sosie.api`, and is served behind the guard of all pages."""
