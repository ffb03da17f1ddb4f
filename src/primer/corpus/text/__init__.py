"""Text by the word, the line and the page: what the filters measure."""
