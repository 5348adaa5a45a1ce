"""From a model and held-out examples to verdicts: free and grammar-constrained answers to one and the same prompts."""

from collections.abc import Mapping, Sequence

from .constrain import Constraint
from .decode import Output, both, generate
from .examples import Example
from .formats import Format, encode, prompt_text
from .models import stop_ids
from .scoring import Verdict, judge

WAYS = ("free", "constrained")


def answers(model, tokenizer, examples: Sequence[Example], form: Format, prompts: Mapping[str, str] | None = None,
            ways: Sequence[str] = WAYS, longest: int = 128, batch: int = 16,
            single: bool = True) -> dict[str, list[Verdict]]:
    """Way ("free", "constrained") -> a verdict for each example, in their order; greedy decoding.

    prompts: id -> text, where they are not those of the format (few-shot); single: as for `Format.grammar`.
    Raises ValueError: a way that is none, a grammar that is wrong.
    """
    if not ways or set(ways) - set(WAYS):
        raise ValueError(f"ways: got {list(ways)}, expected some of {', '.join(WAYS)}")
    texts = [prompts[e.id] if prompts else prompt_text(tokenizer, e, form) for e in examples]
    ids, ends, made = [encode(tokenizer, text) for text in texts], stop_ids(model, tokenizer), {}
    if "constrained" in ways:
        choose = Constraint(tokenizer, [form.grammar(e, single) for e in examples], model.config.vocab_size)
        if "free" in ways:
            made["free"], made["constrained"] = both(model, ids, ends, choose, longest, batch)
        else:
            made["constrained"] = generate(model, ids, ends, longest, batch, choose)
    else:
        made["free"] = generate(model, ids, ends, longest, batch)

    def verdict(example: Example, text: str, output: Output) -> Verdict:
        return judge(example, tokenizer.decode(output.ids, skip_special_tokens=False), form, output.stopped, text)

    return {way: [verdict(*one) for one in zip(examples, texts, made[way], strict=True)] for way in ways}
