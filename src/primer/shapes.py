"""The legend of axes: one letter an axis, everywhere in this project.

| letter | axis | other dialects |
|---|---|---|
| B | sequence in the batch | `batch_size`, N |
| T | query position in the sequence | `block_size`, `seq_len`, L, n |
| S | key position (equals T unless keys are cached) | T', `kv_len` |
| C | `d_model`, width of the residual stream | `n_embd`, `hidden_size`, d_model |
| H | `n_heads` (of keys and values: `n_kv_heads`) | `n_head`, h |
| D | `d_head`, width of one head | `head_size`, d_k, d_v |
| F | `d_ff`, width inside the feed-forward | `intermediate_size`, 4 * n_embd |
| V | `vocab_size` | `n_vocab` |
| L | `n_layers` | `n_layer`, N |

`context_length` is the largest T that a model was built for (`block_size`, `n_ctx`, `max_seq_len`).
"""

PADDING = -1
"""Where a row of ids is shorter than its batch: the id of no token. It has no row in a vocabulary, so no model can
write it; models do not look at it, losses do not count it."""
