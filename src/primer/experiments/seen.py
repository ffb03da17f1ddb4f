"""What was seen when a lesson was carried out in full; the figures are those of benchmarks/results/lesson-NAME.json."""

_SEEN = {
    "sums": """
        Added one by one, a sum stops where half of its last bit is more than the next number. After a million
        numbers of about 0.01, fp16 and tf32 have kept less than 1 % of their sum and bf16 less than 0.1 %; fp32
        is off by one part in twelve thousand. Added in pairs, each number goes through log₂(n) roundings
        instead of n, at no cost: fp16 ends within 0.1 %, bf16 within 0.3 %. Kahan's sum manages that one by
        one, as long as what is lost fits into the number that carries it: in bf16 it holds for ten thousand
        terms and is wrong by 80 % at a million. E4M3 fails at a million in every way: the sum, about 10,000, is
        beyond its largest number.""",
    "softmax": """
        The formula as it is written breaks where e^x overflows: in fp16 and E5M2 every row of 256 normal logits
        that are multiplied by 10, in fp32 and bf16 a third of those multiplied by 30. With the largest logit
        taken off first, no row breaks in any format. Doing it in one pass, as flash attention does, loses
        nothing that could be measured: the errors are those of the shifted form. What is left goes with the
        mantissa's bits: about 10^-7 in fp32, 10^-3 in fp16, 10^-2 in bf16. In E5M2, with two of them, logits of
        spread 1 are off by 3.1, more than two distributions can differ: these are none. Their sum is added up
        in E5M2 too, and stops as in the first lesson, so that the probabilities add up to about 4.""",
    "products": """
        What is measured is what follows from rounding errors that know nothing of each other, to within 2 %,
        whatever the length of the sums: 2.9e-4 in tf32 and fp16, 2.3e-3 in bf16, 3.7 % in E4M3, 7.4 % in E5M2.
        For the short formats the bound of the worst case is 12 to 110 times as large and grows with the root of
        the length; of fp8 it says that a product of 512 terms may be wrong altogether, and none is. (In fp32 it
        is the sums that round, not the inputs: the bound grows faster, to 14,000 times what is measured.)
        Blocks with a power of two for a scale (MXFP8) are a little worse than one scale for all, 4.2 %: they
        clip, and such a scale misses the best one by up to a bit. Of the four-bit formats NVFP4 is off by 13 %,
        MXFP4 by 16 %.""",
    "fp16": """
        With everything in fp16, training is over after its first step, with every seed: AdamW's epsilon of 1e-8
        is 0 in fp16, so are the squares of small gradients, and what is divided by both is infinite. Loss
        scaling does not save it, since gradients are divided by the scale before AdamW squares them. fp32
        master weights and moments do, and so does bf16, or an epsilon that fp16 can say. With master weights
        the loss is fp32's, to within 0.013 nats, with loss scaling or without. What is altogether in bf16, or
        in fp16 with the larger epsilon, trains, and no difference can be shown with five seeds; but such runs
        go their own ways, and the intervals reach from 0.06 below fp32's loss to 0.08 above it.""",
    "small-updates": """
        Rounded to the nearest, bf16 weights lose what is smaller than half a step: 0.067 nats worse than fp32
        after 600 steps. Rounded by chance, the same weights in the same 16 bits are as good as fp32's, to
        within 0.002: an update that is a tenth of a step arrives once in ten times. Rounding toward zero is
        worst, 0.234: whatever pulls a weight away from zero is lost unless it is a whole step, and whatever
        pulls it back counts for one.""",
    "epsilon": """
        1e-8 is 0 in fp16, whose smallest number is 6e-8: after the first step weights are no numbers any more,
        with every seed. 1e-7 is there, as twice the smallest number, and is no help: second moments of
        gradients below 8e-4 are still 0, such weights are moved by up to thousands of times what Adam means,
        and the loss is 0.89 nats worse; with 1e-6 it is 0.43. From 1e-5 on, fp16's AdamW trains as well as
        fp32's, as far as three seeds can show. bf16 has fp32's exponents: with 1e-8 it is within 0.003 nats.""",
    "formats": """
        tf32, bf16 and fp16 in the products train as fp32 does, to within 0.007 nats (fp16 without loss scaling
        within 0.002). fp8 without a scale does not: of the gradients of activations in this model E4M3 makes 96
        % zero (`primer float --histogram` of the fp32 run), and the loss is 0.33 nats worse. E5M2 for the
        gradients, with its wider range and still no scale, makes a third of them zero, and is no remedy but
        worse, 0.75; presumably because AdamW makes full steps of those that survive, with two bits. With one
        scale for a tensor or for a row, no difference to fp32 can be shown with five seeds (−0.02 to +0.03),
        nor can it for MXFP8, whose interval reaches to 0.06 above fp32's loss. Four bits cost something: NVFP4
        0.012 (0.000 to 0.023), MXFP4 0.028 with the rule that clips no block, and 0.048 with the usual one,
        which is no difference that these intervals can tell apart. Rounding gradients by chance did not pay
        here, in MXFP4 or NVFP4.""",
}

SEEN = {name: " ".join(text.split()) for name, text in _SEEN.items()}
