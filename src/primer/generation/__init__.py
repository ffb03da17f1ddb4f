"""From logits to text: which token comes next (`sampling`), one by one (`decode`), as text (`text`)."""
