"""Files of ids, and where we stopped."""
