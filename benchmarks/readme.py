"""README's figures, from the receipts: `python benchmarks/readme.py` writes them anew; a test holds README to them."""

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def figures(name: str) -> dict[str, Any]:
    """What a receipt says."""
    receipt = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = receipt["figures"]
    return found


def step_rows() -> list[tuple[str, str]]:
    """A training step at the lecture's sizes."""
    step = figures("step")
    ours = [step["primer, dropout 0.2"], step["primer, no dropout"]]
    with_dropout, without = (
        f"{each['times_the_script']:.2f} × the script (quartiles {low:.2f} and {high:.2f}), "
        f"at {each['share_of_matmul_rate']:.0%} of the matmul rate"
        for each in ours
        for low, _, high in [each["quartiles_of_it"]]
    )
    peak = [each["peak_megabytes"] / 1000 for each in (ours[0], step["script"])]
    fetching = max(each["share_spent_fetching"] for each in ours)
    return [
        ("a training step at the lecture's model and batch, dropout 0.2", with_dropout),
        ("… without dropout", without),
        ("… its peak memory", f"{peak[0]:.1f} GB; the script's {peak[1]:.1f} GB"),
        ("… the share of it that fetching batches takes", f"{fetching:.2%}"),
    ]


def race_rows() -> list[tuple[str, str]]:
    """Seconds to a validation loss, and how many times the script's."""
    race = figures("race")
    rows = []
    for recipe in ("shakespeare", "shakespeare-fast"):
        for target in ("1.70", "1.60", "1.50"):
            reached = race[recipe][f"to {target}"]
            more = "" if reached["lecture_arrived"] else "more than "
            took = statistics.median(reached["seconds"])
            hours = reached["lecture_seconds"] / 3600
            text = f"{took:.0f} s; the script {more}{hours:.1f} h: {more}{reached['times_the_script']:.0f} ×"
            rows.append((f"`{recipe}` to a validation loss of {target}", text))
        best = [f"{loss:.3f}" for loss in race[recipe]["best"]]
        after = statistics.median(race[recipe]["best_after_seconds"])
        rows.append((f"`{recipe}`: the best of each seed", f"{', '.join(best)}, after {after:.0f} s"))
    return rows


def sampling_rows() -> list[tuple[str, str]]:
    """Writing, against the script's `generate`."""
    times = figures("sampling")["primer"]["times_the_script"]
    return [("writing text, positions 128 to 255", f"{times:.1f} × the script's `generate`")]


def text_rows() -> list[tuple[str, str]]:
    """Text on its way into shards."""
    text = figures("text")
    peak = text["… peak memory above the interpreter's (MB)"]
    return [
        ("characters → ids", f"{text['characters → ids, ASCII (MB/s)']:.0f} MB/s"),
        ("1 GB of text → shards", f"{peak:.0f} MB of memory above the interpreter's"),
        ("the built-in text, made the first time", f"{text['built-in text, made (s)']:.1f} s"),
    ]


def contact_rows() -> list[tuple[str, str]]:
    """What a newcomer waits for."""
    contact = figures("first_contact")
    train = contact["train"]
    first_step = statistics.median(contact["first_step_seconds_beyond_torch"])
    return [
        (
            "`primer train`: first sample, the whole",
            f"{train['first_sample_seconds']:.0f} s, {train['seconds']:.0f} s",
        ),
        ("… to the end of its first step, beyond `import torch`", f"{first_step:.1f} s"),
        ("`primer --help`", f"{statistics.median(contact['help_seconds']):.2f} s"),
    ]


def gpt2_step_rows() -> list[tuple[str, str]]:
    """A training step of GPT-2 (124M) on a CPU."""
    step = figures("gpt2_step")
    share = step["primer"]["share_of_matmul_rate"]
    faster = [f"{step[name]['primer_is_faster_by']:.3g} ×" for name in ("transformers", "plain module")]
    text = f"{faster[0]} `transformers`, {faster[1]} a plain module, at {share:.0%} of the matmul rate"
    return [("a training step of GPT-2 (124M), 4 × 256 tokens", text)]


def tokenizer_rows() -> list[tuple[str, str]]:
    """Byte-level BPE against the field's libraries."""
    found = figures("tokenizer")
    one, two = found["… ÷ tiktoken's faster way"], found["… ÷ tiktoken's batch"]
    learned = found["learn 32,768, gpt4's pattern (s)"], found["… times as fast, gpt4"]
    return [
        (
            "encoding with GPT-2's tokenizer",
            f"{one:.2f} × tiktoken on one thread, {two:.2f} × its batch on two",
        ),
        (
            f"learning 32,768 tokens from {found['text (MB)']:.0f} MB",
            f"{learned[0]:.2f} s, {learned[1]:.1f} × as fast as `tokenizers`",
        ),
    ]


def prepare_rows() -> list[tuple[str, str]]:
    """Texts to token shards."""
    found = figures("prepare")
    peak = max(found[kind]["peak_mb"] for kind in ("one document", "one line"))
    text = f"{found['share_of_the_encoder']:.0%} of the encoder's own speed, {peak} MB at most"
    return [("`primer prepare`, documents to shards", text)]


def kneser_ney_rows() -> list[tuple[str, str]]:
    """A small GPT against counting, on the same tokens."""
    found = figures("kneser_ney")
    size = f"{found['tokens']['vocabulary']:,}"
    text = f"{found['gpt_nats']:.3f} nats a token; {found['better_by']:.2f} better than a Kneser–Ney 5-gram"
    return [(f"a small GPT-2 on tiny Shakespeare in {size} tokens", text)]


def multi30k_rows() -> list[tuple[str, str]]:
    """English → German, after how many minutes."""
    curve = figures("multi30k-long")["curve"]
    last, (low, high) = curve[-1], curve[-1]["interval"]
    reached = [
        f"{goal} after {next(point['minutes'] for point in curve if point['bleu'] >= goal):.0f}"
        for goal in (34, 36, 38)
        if any(point["bleu"] >= goal for point in curve)
    ]
    score = f"BLEU {last['bleu']:.1f} (95 %: {low:.1f}–{high:.1f}) after {last['minutes']:.0f} minutes"
    text = f"{score}; {', '.join(reached)}"
    return [
        ("`multi30k --train.steps=20000`: Multi30k's test set of 2016, English → German, a beam of 4", text)
    ]


def dates_rows() -> list[tuple[str, str]]:
    """Dates in words → ISO 8601: all seeds together."""
    seeds = figures("dates")["seeds"]
    exact = [f"{each['exact']:.1%}" for each in seeds]
    slowest = max(each["seconds"] for each in seeds) / 60
    text = f"{', '.join(exact)} exact with three seeds, after {slowest:.1f} minutes"
    return [(f"`dates`: {seeds[0]['pairs']:,} dates of years that training never saw", text)]


def translation_step_rows() -> list[tuple[str, str]]:
    """A training step of the encoder–decoder."""
    found = figures("translation_step")
    rates: dict[str, list[str]] = {}
    for setting, each in found.items():
        size, dropout = setting.split(", ")
        rates.setdefault(dropout, []).append(f"{each['primer_is_faster_by']:.2f} × ({size})")
    (paper, with_it), (_, without) = rates.items()
    text = f"{paper}: {', '.join(with_it)}; none: {', '.join(without)}"
    return [("a training step of the encoder–decoder, against `torch.nn.Transformer`", text)]


def translate_rows() -> list[tuple[str, str]]:
    """Translating."""
    found = figures("translate")
    text = f"{found['keys and values kept']:.0f} sentences/s, {found['times']:.1f} × a search that computes all again"
    return [("translating captions with a beam of 4", text)]


def rounding_rows() -> list[tuple[str, str]]:
    """Numbers rounded to a format."""
    found = figures("rounding")
    rate, which = found["slowest"]
    name, _, rounding = which.partition(" ")
    copy = found["gb_per_second"]["copy"]
    theirs = [
        f"{min(found[key].values()):.0f} × {who}"
        for key, who in (("times_ml_dtypes", "ml_dtypes"), ("times_gfloat", "gfloat"))
    ]
    return [
        (
            "64 MiB of fp32 numbers rounded to any format, in any rounding",
            f"at least {rate:.1f} GB/s ({name}, {rounding}; a copy: {copy:.1f}); to fp8 {' and '.join(theirs)}",
        )
    ]


def format_step_rows() -> list[tuple[str, str]]:
    """A training step in emulated formats."""
    ratios = figures("format_step")["times_fp32"]
    worst = max(ratios, key=ratios.__getitem__)
    shown = [
        f"{ratios[name]:.2f} × (`{name.partition(',')[0]}`)"
        for name in ("bf16", "e4m3, a scale a tensor", "mxfp4")
    ]
    text = f"{', '.join(shown)} the fp32 step; at most {ratios[worst]:.2f} × ({worst})"
    return [("a training step of the lecture's model in emulated formats", text)]


def formats_gpu_rows() -> list[tuple[str, str]]:
    """Rounding, and steps of GPT-2 in fp8 and in emulated formats, on one GPU."""
    found = figures("formats_gpu")
    rates, steps = found["gb_per_second"], found["steps"]
    slowest, plain = (
        min(rates[f"e4m3 {how}"] for how in ("nearest", "stochastic")),
        "e4m3 nearest plain, a sixteenth",
    )
    base = steps["bf16, compiled"]["seconds"]
    own, short, emulated = (
        steps[name]["seconds"] / base
        for name in ("fp8, the device's own products, compiled", "fp8, emulated", "mxfp4, emulated")
    )
    return [
        (
            "1 GiB of fp32 numbers rounded to fp8 on one H200",
            f"{slowest:,.0f} GB/s (a copy: {rates['copy']:,.0f}; torch's cast there and back: "
            f"{rates['e4m3 torch, there and back']:,.0f}; operation by operation: {rates[plain]:.0f})",
        ),
        (
            "a step of `gpt2-124m` (16 × 1,024 tokens) on one H200, against bf16 compiled",
            f"fp8 products of its own, compiled: {own:.2f} ×; emulated, not compiled: {short:.1f} × (fp8), "
            f"{emulated:.1f} × (MXFP4)",
        ),
    ]


def gpu_rows() -> list[tuple[str, str]]:
    """Both recipes' own steps on one GPU."""
    gpu = figures("gpu")
    return [
        (
            f"`{recipe}`, training on one H200, compiled",
            f"{found['tokens_per_second']:,} tokens/s, {found['share_of_peak']:.0%} of 989 TFLOP/s; "
            f"not compiled {gpu[f'{recipe}, eager']['tokens_per_second']:,}",
        )
        for recipe, found in ((name, gpu[f"{name}, compiled"]) for name in ("gpt2-124m", "gpt2-124m-modern"))
    ]


def corpus_rows() -> list[tuple[str, str]]:
    """The recipes against datatrove's published one, a core each."""
    corpus = figures("corpus")
    theirs = corpus["datatrove"]
    rows = [
        (
            "FineWeb's recipe on 1,500 pages, WARC to deduplicated text: datatrove's own blocks",
            f"{theirs['pages_per_second']} pages/s a core, {theirs['peak_mb']} MB",
        )
    ]
    for name, about in (("fineweb", "the same extractor"), ("fineweb-fast", "Resiliparse")):
        found = corpus[name]
        rows.append(
            (
                f"… `{name}` ({about})",
                f"{found['pages_per_second']} pages/s a core: {found['times_datatrove']:.1f} ×, {found['peak_mb']} MB",
            )
        )
    return rows


def corpus_scaling_rows() -> list[tuple[str, str]]:
    """Two workers against one."""
    found = figures("corpus_scaling")
    rate = found["two"]["pages_per_second"]
    return [
        (
            f"… `{found['recipe']}`, {found['pages']:,} pages, two workers",
            f"{rate:.0f} pages/s: {found['times']:.2f} ×",
        )
    ]


def extractor_rows() -> list[tuple[str, str]]:
    """How near to trafilatura, and how fast."""
    found = figures("extractors")
    names = {
        "trafilatura": "trafilatura itself",
        "resiliparse": "`resiliparse`",
        "main_content": "Resiliparse's own search for the main content",
        "primer": "`primer`",
    }
    text = "; ".join(
        f"{name} {found[key]['milliseconds']:.1f} ms, {found[key]['f1']:.3f}" for key, name in names.items()
    )
    return [
        (
            f"a page's main text: time, and F1 of its words against trafilatura {found['trafilatura_version']}",
            text,
        )
    ]


def minhash_rows() -> list[tuple[str, str]]:
    """A million signatures."""
    found = figures("minhash")
    text = f"{found['seconds']:.0f} s, {found['peak_mb']} MB, on one core"
    return [(f"near duplicates among {found['documents']:,} signatures: all pairs and clusters", text)]


PARTS = {
    "first_contact": contact_rows,
    "step": step_rows,
    "race": race_rows,
    "sampling": sampling_rows,
    "text": text_rows,
    "gpt2_step": gpt2_step_rows,
    "tokenizer": tokenizer_rows,
    "prepare": prepare_rows,
    "kneser_ney": kneser_ney_rows,
    "dates": dates_rows,
    "multi30k-long": multi30k_rows,
    "translation_step": translation_step_rows,
    "translate": translate_rows,
    "rounding": rounding_rows,
    "format_step": format_step_rows,
    "gpu": gpu_rows,
    "formats_gpu": formats_gpu_rows,
    "corpus": corpus_rows,
    "corpus_scaling": corpus_scaling_rows,
    "extractors": extractor_rows,
    "minhash": minhash_rows,
}


def table() -> str:
    """All rows as Markdown, each with a link to its receipt."""
    lines = ["| what | figure | receipt |", "|---|---|---|"]
    for name, rows in PARTS.items():
        link = f"[{name}.json](benchmarks/results/{name}.json)"
        lines += [f"| {what} | {figure} | {link} |" for what, figure in rows()]
    return "\n".join(lines) + "\n"


def attention_cpu_table() -> str:
    """Attention on a CPU, against torch's, and tiles against equation 1."""
    found = figures("attention_cpu")
    cases, both = found["cases"], "forward and backward"
    shown = {
        "causal": ("causal, 8 heads of 64, 4,096 positions", both),
        "window": ("… in a window of 512", both),
        "documents": ("… eight documents in the row", both),
        "lecture, 64 rows": ("the lecture's: 64 × 256, 4 heads of 96, dropout 0.2", both),
        "lecture, 16 rows": ("… 16 rows of it, a micro-batch", both),
        "decoding, 8 of 32": ("one query of 32 heads, 4,096 keys of 8 heads of 128; forward", "forward"),
        "tiled": ("`tiled` against equation 1 in torch, 1,024 positions", both),
    }
    lines = ["| float32, two cores | torch, ms | here, ms | |", "|---|---|---|---|"]
    for name, (what, which) in shown.items():
        case = cases[name][which]
        theirs, ours = (value for key, value in case.items() if key.endswith("_ms"))
        lines.append(f"| {what} | {theirs:,.1f} | {ours:,.1f} | {case['times']:.2f} × |")
    largest = {name: values[-1] for name, values in found["megabytes"].items()}
    lines.append(
        f"| … its memory at 4,096, forward and backward | {largest['reference']:,.0f} MB "
        f"| {largest['tiled']:,.0f} MB | |"
    )
    return "\n".join(lines) + "\n"


def attention_gpu_table() -> str:
    """Attention on one GPU, against torch's kernels."""
    found = figures("attention_gpu")
    names = {
        "gpu": "here",
        "library_flash": "FlashAttention-2",
        "library_cudnn": "cuDNN",
        "flex": "FlexAttention",
    }
    lines = [f"| TFLOP/s, bfloat16, 8,192 positions | {' | '.join(names.values())} |", "|---" * 5 + "|"]
    for case in ("width 128, causal", "width 128, full", "width 64, causal", "width 64, full"):
        for which in ("forward", "backward"):
            rates = [found[case].get(name, {}).get("8192", {}).get(which) for name in names]
            cells = " | ".join("" if rate is None else f"{rate:,.0f}" for rate in rates)
            lines.append(f"| {case}, {which} | {cells} |")
    return "\n".join(lines) + "\n"


BLOCKS = {
    "figures": table,
    "attention on a CPU": attention_cpu_table,
    "attention on a GPU": attention_gpu_table,
}
"""What is written between two comments of README, by their names."""


def rewritten(readme: str) -> str:
    """README with its figures as the receipts say."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = readme.partition(begin)
        _, _, after = rest.partition(end)
        readme = f"{before}{begin}{block()}{end}{after}"
    return readme


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(rewritten(file.read_text(encoding="utf-8")), encoding="utf-8")
