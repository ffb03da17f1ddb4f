"""From a raw crawl to clean, deduplicated text."""
