"""What pre-flight looks at, and what it says: a plan of a run, its rows beside the evaluation's, a finding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .examples import Example
from .formats import Format, Row
from .scoring import Verdict, judge


@dataclass(frozen=True)
class Plan:
    """A fine-tuning run and its evaluation, before the first step."""

    tokenizer: object
    form: Format  # of the evaluation
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    rows: tuple[Row, ...]  # what the trainer sees, one for each of `train`
    prompts: Mapping[str, Mapping[str, str]]  # system -> test id -> prompt; "tuned" is the model to be trained
    max_length: int  # tokens of a training row at most
    max_new: int  # tokens generated at most
    stop_ids: tuple[int, ...]  # that end a generation
    grade: Callable[[Example, str, Format], Verdict] = judge
    model: object = None  # the base, for the checks of likelihood
    step: Callable[[Row], object] | None = None  # the loss of one row, as the trainer will compute it


@dataclass(frozen=True)
class Finding:
    """What was found. `where` names the first places; "error" stops a training, "warning" does not."""

    check: str
    what: str
    where: str
    consequence: str
    cure: str
    severity: str

    def __str__(self):
        return (f"{self.severity} {self.check}: {self.what} ({self.where}). {self.consequence} Cure: {self.cure}")


@dataclass(frozen=True)
class Seen:
    """One training row beside what the evaluation will give for the same example."""

    example: Example
    row: Row
    reference: Row  # as the chat template renders it, whole
    prompt_length: int  # of the evaluation's prompt, in tokens
    taught: str | None  # the answer that carries loss, end token cut off; None: it cannot be told from the prompt
    labelled: tuple[int, ...] = field(default=())  # ids that carry loss

    @property
    def starts(self) -> bool:
        """Whether the row begins with the ids of the evaluation's prompt."""
        return self.row.ids[:self.prompt_length] == self.reference.ids[:self.prompt_length]


def decoded(tokenizer, ids: Sequence[int]) -> str:
    """The text of ids to the byte, control tokens too; some tokenizers would tidy the blanks before punctuation."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def some(check: str, what: str, ids: Sequence[str], of: Sequence, consequence: str, cure: str, rows: str = "train rows",
         severity: str = "error") -> list[Finding]:
    """One finding where there are any ids, with their number and the first three; else none."""
    where = f"{len(ids)} of {len(of)} {rows}, first {', '.join(ids[:3])}"
    return [Finding(check, what, where, consequence, cure, severity)] if ids else []
