"""Which documents say the same: exact copies by a hash, near copies by MinHash; one of each cluster stays."""
