"""A small task of translation without any file: the words of numbers, and dates."""

import datetime
import random

from babel import localedata
from babel.dates import format_date
from num2words import CONVERTER_CLASSES, num2words

from data.parallel_text import ParallelText
from running.errors import RecipeError

# The days that can be drawn, as ordinals.
DAYS = range(datetime.date(1900, 1, 1).toordinal(), datetime.date(2100, 1, 1).toordinal())


def make_numbers(
    source: str,
    target: str,
    limit: int = 1_000_000,
    train: int = 20_000,
    test: int = 1_000,
    seed: int = 0,
) -> ParallelText:
    """Writes numbers and dates in two languages.

    3 of 4 pairs are numbers as num2words writes them: "two hundred and forty-five" and
    "zweihundertfünfundvierzig". Those of 1, 2, 3, ... digits are equally many, but for those of
    which there are not enough: then all are there. 1 of 4 is a day of the years 1900 to 2099 in
    the full format of Babel: "Monday, March 3, 1997" and "Montag, 3. März 1997". No sentence comes
    twice in either language: what is tested was never seen.

    Args:
        source: Language to translate from, a name that num2words and Babel know: `"en"`.
        target: Language to translate into.
        limit: The numbers are at least 1 and less than this: the greater, the harder.
        train: Number of pairs to train on.
        test: Number of pairs to test, and of those for validation.
        seed: Integer, decides what is drawn and what of it is tested.

    Returns:
        The text, shuffled.

    Raises:
        RecipeError: If a language is unknown, or if there are too few numbers or days.
    """
    require_numbers(source, target, limit, train, test)
    total = train + 2 * test
    days = total // 4
    rng = random.Random(seed)
    pairs = [(_words(n, source), _words(n, target)) for n in _numbers(rng, limit, total - days)]
    for day in rng.sample(DAYS, days):
        date = datetime.date.fromordinal(day)
        pairs.append((_date(date, source), _date(date, target)))
    rng.shuffle(pairs)
    # Nothing that comes twice in a language is kept twice.
    by_target = {t: s for s, t in dict(pairs).items()}
    pairs = [(s, t) for t, s in by_target.items()]
    note = None
    if len(pairs) < total:
        note = f"{total - len(pairs)} pairs of train were left out: other numbers read the same"
    return ParallelText(
        "numbers",
        source,
        target,
        train=pairs[2 * test :],
        val=pairs[test : 2 * test],
        test=pairs[:test],
        note=note,
    )


def require_numbers(
    source: str, target: str, limit: int = 1_000_000, train: int = 20_000, test: int = 1_000
) -> None:
    """Raises a `RecipeError` if `make_numbers` cannot make this."""
    if source == target:
        raise RecipeError(f"--source and --target must differ. Received: {source!r} for both")
    languages = [name for name in sorted(CONVERTER_CLASSES) if localedata.exists(name)]
    for option, language in (("--source", source), ("--target", target)):
        if language not in languages:
            raise RecipeError(
                f"{option} must be a language of num2words and of Babel: {', '.join(languages)}. "
                f"Received: {language!r}"
            )
    total = train + 2 * test
    days = total // 4
    if days > len(DAYS):
        raise RecipeError(
            f"{total:,} pairs need {days:,} different days, but there are only {len(DAYS):,}: ask "
            "for fewer pairs."
        )
    if not total - days < limit <= 10**18:
        raise RecipeError(
            f"{total:,} pairs need {total - days:,} different numbers: --limit must be more than "
            f"that, and at most 10**18. Received: {limit:,}"
        )


def _numbers(rng, limit, wanted):
    lengths = [range(10**n, min(10 ** (n + 1), limit)) for n in range(len(str(limit - 1)))]
    numbers: list[int] = []
    # Lengths of few numbers come first: the others make up for them.
    for i, length in enumerate(sorted(lengths, key=len)):
        share = (wanted - len(numbers)) // (len(lengths) - i)
        numbers += rng.sample(length, min(share, len(length)))
    return numbers


def _words(number, language):
    try:
        words = num2words(number, lang=language)
    # Its languages are of many hands.
    except Exception as error:
        raise RecipeError(
            f"num2words cannot write {number} in {language!r} ({error}). Choose another language, "
            "or a lower --limit."
        ) from error
    if language == "de":
        # num2words 0.5.14 writes "einhunderteinstausend".
        words = words.replace("einstausend", "eintausend")
    return _plain(words)


def _date(date, language):
    return _plain(format_date(date, "full", locale=language))


def _plain(text):
    """The text with blanks as `read_parallel` leaves them."""
    return " ".join(text.split())
