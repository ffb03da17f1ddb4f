"""From the logits of the next token to the next token (`sampling`), one by one (`decode`), as text (`text`); or to the
best whole sentence (`beam`)."""
