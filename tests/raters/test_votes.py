import pytest

from pyro_llm.errors import OutputPathError, VoteFileError
from pyro_llm.raters import Vote, Votes, append_vote, load_votes
from pyro_llm.raters.votes import matched_prefixes


def test_votes_from_jsonl(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text(
        '{"prefix": "a\\n", "vote": "yes", "rater": "Ann", "problem": "1 + 1"}\n\n'
        '{"text": "b", "vote": false, "note": "left alone"}\n{"text": "b", "vote": "S"}\n',
        "utf-8",
    )
    votes = load_votes(path)
    assert votes.votes == (
        Vote(prefix="a\n", vote="yes", rater="Ann", problem="1 + 1"),
        Vote(prefix="b", vote="no"),
        Vote(prefix="b", vote="skip"),
    )
    assert votes.raters == ("Ann", "person")
    assert [vote.prefix for vote in votes.on("1 + 1")] == ["a\n", "b"]
    assert [vote.prefix for vote in votes.on("2 + 2")] == ["b"]
    assert len(votes.on(None)) == 2


def test_votes_from_csv(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text('\ufefftext,vote,rater,problem\n"a\nb",y,Ann,\nc,n,Bob,1 + 1\n', "utf-8")
    assert load_votes(path).votes == (
        Vote(prefix="a\nb", vote="yes", rater="Ann"),
        Vote(prefix="c", vote="no", rater="Bob", problem="1 + 1"),
    )


def test_bad_lines_are_all_named(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text('{"prefix": "a", "vote": "yes"}\n{"prefix": "a"}\nnot json\n{"prefix": "", "vote": "no"}\n'
                    '{"prefix": "a", "vote": "perhaps"}\n[1]\n')  # fmt: skip
    with pytest.raises(VoteFileError) as error:
        load_votes(path)
    lines = str(error.value).splitlines()
    assert "lines that are no votes" in lines[0]
    for shown, expected in zip(lines[1:], ["line 2: vote", "line 3: not JSON", "line 4: ", "line 5: vote", "line 6"],
                               strict=True):  # fmt: skip
        assert shown.startswith(expected)
    path.write_text("no\n" * 30)
    with pytest.raises(VoteFileError, match="and 10 more"):
        load_votes(path)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(VoteFileError, match="Cannot read votes"):
            load_votes(path)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(VoteFileError, match="Cannot read votes"):
        load_votes(tmp_path / "bytes.jsonl")


@pytest.mark.parametrize("name", ["votes.jsonl", "votes.csv"])
def test_votes_are_appended_and_read_again(tmp_path, name):
    cast = [Vote(prefix='a, "b"\n', vote="yes", rater="Änn", problem="1 + 1"), Vote(prefix="ü", vote="skip")]
    for vote in cast:
        append_vote(tmp_path / name, vote)
    assert load_votes(tmp_path / name) == Votes(tuple(cast))
    with pytest.raises(OutputPathError, match="Cannot append"):
        append_vote(tmp_path / "none" / name, cast[0])


def test_appending_keeps_the_columns_that_are_there_and_mends_a_last_line(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("rater,text,vote\nAnn,a,y")
    append_vote(path, Vote(prefix="b", vote="no", rater="Bob"))
    assert path.read_text().splitlines() == ["rater,text,vote", "Ann,a,y", "Bob,b,no"]


def test_prefixes_end_where_lines_do():
    assert matched_prefixes("") == []
    assert matched_prefixes("answer: 95") == ["answer: 95"]
    assert matched_prefixes("\n\nb") == ["\n", "\n\nb"]
    assert matched_prefixes("a\n\nb\n") == ["a", "a\n\nb"]


@pytest.mark.parametrize(
    ("header", "vote", "missing"),
    [
        ("text,vote", Vote(prefix="b", vote="no", rater="Ann"), "'rater'"),
        ("text,vote,rater", Vote(prefix="b", vote="no", rater="Ann", problem="1 + 1"), "'problem'"),
        ("text,vote", Vote(prefix="b", vote="no", rater="Ann", problem="1 + 1"), "'rater', 'problem'"),
        ("vote,rater,problem", Vote(prefix="b", vote="no"), "'prefix'"),
        ("\ufeff", Vote(prefix="b", vote="no"), "'prefix', 'vote'"),
    ],
)
def test_a_vote_that_the_columns_would_cut_short_is_refused(tmp_path, header, vote, missing):
    path = tmp_path / "votes.csv"
    path.write_text(f"{header}\na,yes,x\n" if header != "\ufeff" else header, "utf-8")
    before = path.read_bytes()
    with pytest.raises(VoteFileError, match=f"lacks {missing}, "):
        append_vote(path, vote)
    assert path.read_bytes() == before


def test_columns_added_to_a_header_are_enough(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("text,vote,rater,problem\na,yes\n", "utf-8")
    vote = Vote(prefix="b", vote="no", rater="Ann", problem="1 + 1")
    append_vote(path, vote)
    assert load_votes(path).votes == (Vote(prefix="a", vote="yes"), vote)
