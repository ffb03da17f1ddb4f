"""EleutherAI's lm-evaluation-harness on one of our models: its prompts, its data, its metrics, our probabilities.

The harness asks a model three things, about texts. `Answers` answers them and needs nothing of the harness;
`run_harness` hands it over and needs lm_eval, which the extra [eval] brings.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from primer.errors import PrimerError, SurroundingsError, UsageError, missing_extra
from primer.evals.likelihood import Pair, encode_pair, log_likelihoods
from primer.generation.sampling import Sampling
from primer.generation.text import streams
from primer.models.gpt import GPT
from primer.tokens.beginning import beginning
from primer.tokens.tokenizer import Ids, Tokenizer
from primer.training.precision import Precision

MOST_TOKENS = 256
"""What is written after a context where the task does not say how much: the harness' own default."""

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the most tokens to write; the first that is there counts."""


@runtime_checkable
class Request(Protocol):
    """One `Instance` of the harness."""

    @property
    def args(self) -> tuple[Any, ...]: ...


class Answers:
    """A model's answers to the harness' three kinds of request, in the order of the requests."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, precision: Precision, *, seed: int = 0) -> None:
        self.model, self.tokenizer, self.precision, self.seed = model, tokenizer, precision, seed

    def loglikelihood(self, requests: Sequence[Request]) -> list[tuple[float, bool]]:
        """args: (context, continuation). Σ log p of the continuation, and whether greedy decoding writes it."""
        pairs = [encode_pair(self.tokenizer, *request.args) for request in requests]
        return [(found.log_p, found.greedy) for found in self._score(pairs)]

    def loglikelihood_rolling(self, requests: Sequence[Request]) -> list[float]:
        """args: (text,). Σ log p of all of it, from its beginning, in windows that share one token."""
        windows = [list(self._windows(*request.args)) for request in requests]
        found = iter(self._score([pair for pairs in windows for pair in pairs]))
        return [sum((next(found).log_p for _ in pairs), 0.0) for pairs in windows]

    def generate_until(self, requests: Sequence[Request]) -> list[str]:
        """args: (context, how). What the model writes on, before the first of the strings in `how["until"]`.

        Of a long context the end is read; while writing, the window moves along (`generation.decode`).
        """
        with self.precision.autocast():
            return [self._write(*request.args) for request in requests]

    def _score(self, pairs: Sequence[Pair]) -> Any:
        with self.precision.autocast():
            return log_likelihoods(self.model, pairs)

    def _windows(self, text: str) -> Iterator[Pair]:
        """Every token once; all windows but the first are full, so that the last one's tokens see the most."""
        ids = self.tokenizer.encode(text, special="text")
        context = self.model.config.context_length
        if len(ids):
            yield Pair(beginning(self.tokenizer)[-1:], ids[:context])
        for done in range(context, len(ids), context):
            stop = min(done + context, len(ids))
            yield Pair(ids[stop - context - 1 : done], ids[done:stop])

    def _write(self, context: str, how: Mapping[str, Any]) -> str:
        sampling, most, stop = understood(how)
        prompt: Ids = self.tokenizer.encode(context, special="text")
        pieces = streams(
            self.model,
            self.tokenizer,
            prompt if len(prompt) else beginning(self.tokenizer),
            max_tokens=most,
            sampling=sampling,
            seed=self.seed,
            stop=stop,
        )
        return "".join(piece for (piece,) in pieces)


def understood(how: Mapping[str, Any]) -> tuple[Sampling, int, list[str]]:
    """(how to choose, how much to write, where to stop) out of a task's `generation_kwargs`.

    As in the harness, nothing is drawn by chance unless `do_sample` or a temperature says so. UsageError for a wish
    that nobody here could fulfil.
    """
    wishes = dict(how)
    until = wishes.pop("until", None) or []
    stop = [text for text in ([until] if isinstance(until, str) else until) if text]
    lengths = [wishes.pop(name, None) for name in LENGTHS]
    most = next((int(length) for length in lengths if length is not None), MOST_TOKENS)
    drawn = wishes.pop("do_sample", None)
    temperature = float(wishes.pop("temperature", 1.0 if drawn else 0.0))
    sampling = Sampling(
        temperature=0.0 if drawn is False else temperature,
        top_k=int(wishes.pop("top_k", 0)),
        top_p=float(wishes.pop("top_p", 1.0)),
        min_p=float(wishes.pop("min_p", 0.0)),
        repetition_penalty=float(wishes.pop("repetition_penalty", 1.0)),
    )
    if wishes:
        asked = ", ".join(sorted(wishes))
        raise UsageError(
            f"the task asks for {asked}, which this generation does not know", hint="another task"
        )
    return sampling, most, stop


def run_harness(
    answers: Callable[[], Answers],
    tasks: Sequence[Any],
    *,
    limit: int | None = None,
    shots: int | None = None,
) -> dict[str, dict[str, Any]]:
    """The harness' results, by task: {"acc,none": …, "acc_stderr,none": …}, as it writes them.

    tasks: names that the harness knows, or its configurations; it fetches their data itself, from where it will. Raises
    SurroundingsError without lm_eval, or where the data cannot be reached; UsageError for a task that it does not know.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise missing_extra("lm_eval", "eval") from error
    manager = TaskManager()
    known = set(manager.all_tasks)
    unknown = [task for task in tasks if isinstance(task, str) and task not in known]
    if unknown:
        raise UsageError(f"the harness knows no task {', '.join(unknown)}", hint="lm_eval ls tasks")
    try:
        found = simple_evaluate(
            model=language_model(answers()),
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            log_samples=False,
        )
    except PrimerError:
        raise
    except OSError as error:
        raise SurroundingsError(
            f"the harness could not get its data: {error}".partition("\n")[0],
            hint="a network, or HF_HUB_OFFLINE=1 with a filled cache",
        ) from error
    return {name: dict(scores) for name, scores in found["results"].items()}


def language_model(answers: Answers) -> Any:
    """`answers` as an `LM` of the harness, for whoever calls it by its own means. Needs lm_eval."""
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise missing_extra("lm_eval", "eval") from error

    class PrimerLM(LM):  # type: ignore[misc, unused-ignore]
        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return answers.loglikelihood(requests)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return answers.loglikelihood_rolling(requests)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return answers.generate_until(requests)

    return PrimerLM()
