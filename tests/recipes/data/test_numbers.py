import datetime
import random
from collections import Counter
from itertools import filterfalse

import hypothesis
import hypothesis.strategies as st
import pytest

import data.numbers
from data.numbers import make_numbers
from running.errors import RecipeError

pytestmark = pytest.mark.once

ONES, TENS, MONTHS, WEEKDAYS = (
    words.split()
    for words in (
        "_ ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
        "fünfzehn sechzehn siebzehn achtzehn neunzehn",
        "_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    )
)


def german(number):
    def part(n):
        if n >= 1000:
            return f"{part(n // 1000)}tausend{part(n % 1000)}"
        if n >= 100:
            return f"{ONES[n // 100]}hundert{part(n % 100)}"
        if n >= 20:
            return (f"{ONES[n % 10]}und" if n % 10 else "") + TENS[n // 10]
        return ONES[n] if n else ""

    return part(number) + ("s" if number % 100 == 1 else "")


@pytest.fixture(scope="module")
def text():
    return make_numbers("en", "de", train=2600, test=200)


def everything(text):
    return text.train + text.val + text.test


def is_date(pair):
    return "," in pair[1]


def test_german_is_right():
    rng = random.Random(0)
    # num2words' fault: thousands that end in 1.
    thousands = [*range(1, 120), *range(101, 1000, 100), *rng.sample(range(1000), 200)]
    numbers = [*range(1, 120), 101_000, *(1000 * n + rng.randrange(1000) for n in thousands)]
    assert [data.numbers._words(n, "de") for n in numbers] == [german(n) for n in numbers]
    assert german(101_000) == "einhunderteintausend"


def test_all_lengths_occur(text):
    numbers = [target for _, target in filterfalse(is_date, everything(text))]
    assert len(numbers) == 2250
    written = {german(n): len(str(n)) for n in range(1, 100_000)}
    # 9 + 90 numbers have 1 and 2 digits; the others are spread evenly.
    assert Counter(written.get(n, 6) for n in numbers) == {
        1: 9, 2: 90, 3: 537, 4: 538, 5: 538, 6: 538,
    }  # fmt: skip
    few = make_numbers("en", "de", limit=1250, train=1500, test=0)
    numbers = [target for _, target in filterfalse(is_date, few.train)]
    assert Counter(written[n] for n in numbers) == {1: 9, 2: 90, 3: 776, 4: 250}


def test_sentences_belong_together(text):
    english = {target: source for source, target in everything(text)}
    ones = "one two three four five six seven eight nine ten eleven twelve"
    assert [english[german(n)] for n in range(1, 13)] == ones.split()
    assert english[german(67)] == "sixty-seven"
    dates = [pair for pair in everything(text) if is_date(pair)]
    assert len(dates) == 750
    years = set()
    for source, target in dates:
        date = datetime.datetime.strptime(source, "%A, %B %d, %Y")
        years.add(date.year)
        weekday, month = WEEKDAYS[date.weekday()], MONTHS[date.month - 1]
        assert source.startswith(f"{date:%A}")
        assert target == f"{weekday}, {date.day}. {month} {date.year}"
    assert min(years) in range(1900, 1905)
    assert max(years) in range(2095, 2100)


@hypothesis.given(
    st.integers(1, 40), st.integers(1, 15), st.integers(0, 20), st.sampled_from(["en", "fr", "ja"])
)
def test_no_sentence_comes_twice(train, test, spare, source):
    total = train + 2 * test
    limit = total - total // 4 + 1 + spare
    text = make_numbers(source, "de", limit, train, test, seed=spare)
    assert [len(text.train), len(text.val), len(text.test)] == [train, test, test]
    for side in (0, 1):
        assert len({pair[side] for pair in everything(text)}) == total
    numbers = {target for _, target in filterfalse(is_date, everything(text))}
    assert numbers <= {german(n) for n in range(1, limit)}
    assert text.note is None
    with pytest.raises(RecipeError, match="--limit must be more than that"):
        make_numbers(source, "de", limit - spare - 1, train, test)


def test_the_seed_decides(text):
    again = make_numbers("en", "de", train=2600, test=200)
    assert text == again
    other = make_numbers("en", "de", train=2600, test=200, seed=1)
    assert set(other.test) != set(text.test)
    # The split does not follow the kind or the length.
    assert 30 < sum(map(is_date, text.test)) < 70


@pytest.mark.parametrize(
    ("source", "target"), [("fr", "de"), ("ru", "te"), ("es", "es_CO"), ("en_IN", "pt_BR")]
)
def test_other_languages(source, target):
    text = make_numbers(source, target, 5000, train=300, test=30)
    assert len(everything(text)) == 360
    for pair in everything(text):
        for sentence in pair:
            assert sentence == " ".join(sentence.split())


def test_numbers_that_read_the_same(monkeypatch):
    def hundreds(number, lang):
        return f"{number // 100} hundert" if lang == "de" else str(number)

    monkeypatch.setattr(data.numbers, "num2words", hundreds)
    for languages in (("en", "de"), ("de", "en")):
        text = make_numbers(*languages, 1000, train=300, test=10)
        assert len(everything(text)) == 80 + 10
        assert len(text.test) == len(text.val) == 10
        for side in zip(*everything(text), strict=True):
            assert len(set(side)) == 90
        assert text.note == "230 pairs of train were left out: other numbers read the same"


def test_bad_arguments():
    for arguments, option in ((("german", "en"), "--source"), (("en", "kz"), "--target")):
        with pytest.raises(RecipeError, match=f"{option} must be a language of num2words") as error:
            make_numbers(*arguments)
        assert " de, en, " in str(error.value)
        assert " kz," not in str(error.value)
    with pytest.raises(RecipeError, match="must differ"):
        make_numbers("en", "en")
    message = "22,000 pairs need 16,500 different numbers: --limit must be more than that"
    with pytest.raises(RecipeError, match=message):
        make_numbers("en", "de", limit=16_500)
    with pytest.raises(RecipeError, match="at most 10"):
        make_numbers("en", "de", limit=10**19)
    with pytest.raises(RecipeError, match="there are only 73,049"):
        make_numbers("en", "de", train=300_000)
    # num2words has no Amharic from 1100 to 1199.
    with pytest.raises(RecipeError, match=r"num2words cannot write 11\d\d in 'am'"):
        make_numbers("en", "am", limit=1200, train=1500, test=30)
