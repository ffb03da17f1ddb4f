"""From pages to a corpus: what is measured of each, what is dropped and why, and what is left."""
