"""A sweep in parts: on other machines, in other chunks, in another order, or after a kill."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossaudit.conformance.sweep.chunk import Done, run_chunk
from lossaudit.conformance.sweep.engine import (
    Journal,
    SweepError,
    in_processes,
    mine,
    read_journal,
    sweep,
)
from lossaudit.conformance.sweep.merge import merged_files
from lossaudit.conformance.sweep.plan import Job
from lossaudit.conformance.sweep.record import finished

OF = 3


@pytest.fixture(scope="module")
def written(job, tmp_path_factory) -> list[bytes]:
    """What three shards have written, with one process, and with its chunks turned round."""
    folder, found = tmp_path_factory.mktemp("shards"), []
    for i, engine in ((1, in_processes(1)), (2, backwards), (3, shuffled)):
        journal = Journal.opened(folder / f"{i}.jsonl", job())
        sweep(journal, engine, shard=(i, OF))
        found.append(journal.path.read_bytes())
    return found


def backwards(job: Job, numbers: Sequence[int]):
    return (run_chunk(job, number) for number in reversed(numbers))


def shuffled(job: Job, numbers: Sequence[int]):
    order = random.Random(5).sample(numbers, len(numbers))  # noqa: S311 - an order, no secret
    return (run_chunk(job, number) for number in order)


@pytest.fixture
def shards(written, tmp_path) -> list[Path]:
    paths = [tmp_path / f"shard-{i + 1}.jsonl" for i in range(OF)]
    for path, content in zip(paths, written, strict=True):
        path.write_bytes(content)
    return paths


def changed(path: Path, change: Callable[[Done], Done]) -> None:
    """Write the first chunk of a shard otherwise."""
    job, chunks, _ = read_journal(path)
    lines = [job, change(chunks[0]), *chunks[1:]]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def test_shards_are_every_chunk_once(job) -> None:
    one = job()
    parts = [mine(one, (i, 5)) for i in range(1, 6)]
    assert sorted(n for part in parts for n in part) == list(range(len(one.chunks())))


def test_merged_shards_are_the_sweep_of_one_machine(shards, alone, same) -> None:
    assert same(merged_files(shards)) == alone()
    assert same(merged_files(shards[::-1])) == alone()


def test_merging_adds_up_what_the_shards_cost(shards) -> None:
    found = merged_files(shards).cost
    chunks = [done for path in shards for done in read_journal(path)[1]]
    assert found.values == 4 * 2**16  # two outputs for two targets
    assert found.chunks == sum(done.seconds for done in chunks)  # in the same order


def test_a_shard_given_twice_is_counted_once(shards, alone, same) -> None:
    assert same(merged_files([*shards, shards[1]])) == alone()


def test_a_chunk_done_twice_counts_once_whatever_it_took(shards, alone, same) -> None:
    again = shards[0].with_name("again.jsonl")
    again.write_bytes(shards[0].read_bytes())
    changed(again, lambda done: msgspec.structs.replace(done, seconds=1e6))
    assert same(merged_files([*shards, again])) == alone()


def test_a_chunk_with_two_answers_is_refused(shards) -> None:
    def other(done: Done) -> Done:
        told = msgspec.structs.replace(done.told[0], seen=done.told[1].seen)
        return msgspec.structs.replace(done, told=[told, *done.told[1:]])

    again = shards[0].with_name("again.jsonl")
    again.write_bytes(shards[0].read_bytes())
    changed(again, other)
    with pytest.raises(SweepError, match=rf"chunk 0 has other answers in {again} than in .*1\.js"):
        merged_files([*shards, again])


def test_a_missing_shard_is_told_by_its_chunks(shards) -> None:
    says = r"11 of 32 chunks are missing: 1, 4, 7, 10, 13, 16, 19, 22 and 3 more\. The command"
    with pytest.raises(SweepError, match=says):
        merged_files([shards[0], shards[2]])


def test_a_shard_that_was_cut_off_is_named(shards) -> None:
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[: content.rstrip().rindex(b"\n") + 20])
    says = rf"^1 of 32 chunks are missing: 1; {shards[1]} is cut off\. The command"
    with pytest.raises(SweepError, match=says):
        merged_files(shards)


def test_the_command_of_a_shard_that_was_cut_off_completes_it(shards, job, alone, same) -> None:
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[: len(content) // 2])
    again: list[int] = []
    journal = Journal.opened(shards[1], job())
    before = set(journal.done)
    sweep(journal, in_processes(1), (2, OF), heard=lambda done: again.append(done.number))
    assert before
    assert sorted([*before, *again]) == mine(job(), (2, OF))
    assert same(merged_files(shards)) == alone()


def test_shards_of_two_sweeps_are_refused_with_what_differs(shards, job) -> None:
    another = job(chunk=2048)
    Journal.opened(shards[1].with_name("another.jsonl"), another)
    with pytest.raises(
        SweepError, match=r"another\.jsonl and .* two sweeps, which differ in chunk"
    ):
        merged_files([shards[0], shards[1].with_name("another.jsonl")])


def test_differences_of_what_was_asked_are_named(shards, job, asked) -> None:
    one = msgspec.structs.replace(job(), askings=[asked(stride=2, targets=(0.5,))])
    Journal.opened(shards[1].with_name("another.jsonl"), one)
    with pytest.raises(SweepError, match="which differ in targets, stride: merge what"):
        merged_files([shards[0], shards[1].with_name("another.jsonl")])


def test_shards_of_two_versions_of_a_framework_are_refused(shards) -> None:
    changed(shards[2], lambda done: msgspec.structs.replace(done, versions={"numpy": "1.0"}))
    with pytest.raises(SweepError, match=r"shard-3.jsonl was made with numpy 1\.0, and .*shard-1"):
        merged_files(shards)


def test_machines_of_several_kinds_are_all_named(shards) -> None:
    changed(shards[2], lambda done: msgspec.structs.replace(done, facts={"threads": "A"}))
    (_, (first, *_), _) = read_journal(shards[0])
    found = merged_files(shards).subjects[0].facts
    assert found == {
        **{name: " or ".join(sorted(["", value])) for name, value in first.facts.items()},
        "threads": " or ".join(sorted(["A", first.facts.get("threads", "")])),
    }


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\n", b'{"lossaudit": 1}\n'])
def test_what_is_no_shard_is_named(tmp_path, content) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(SweepError, match=r"other\.json is no file of a sweep that was begun"):
        merged_files([path])


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(SweepError, match=r"cannot read .*absent\.jsonl: No such file"):
        merged_files([tmp_path / "absent.jsonl"])
    with pytest.raises(SweepError, match="no file to merge"):
        merged_files([])


# --- whatever the chunks, the processes and the order ---------------------------------------------


@settings(max_examples=15)
@given(data=st.data(), stride=st.integers(1, 5), seed=st.integers(0, 3))
def test_the_result_depends_on_no_chunk_and_no_order(asked, same, data, stride, seed) -> None:
    """Of two subjects, on a span around zero, or with one side."""
    low, high = data.draw(st.sampled_from([("-1e-6", "1e-6"), ("0.5", "0.6"), ("-65504", "-6e4")]))
    askings = [
        asked(op, span=f"{low}:{high}", stride=stride, seed=seed) for op in ("quick", "again")
    ]
    whole = Job(askings=askings)
    expected = same(finished(whole, [run_chunk(whole, n) for n in range(len(whole.chunks()))]))
    cut = Job(askings=askings, chunk=data.draw(st.integers(3, 80)))
    order = data.draw(st.permutations(range(len(cut.chunks()))))
    assert same(finished(cut, [run_chunk(cut, n) for n in order])) == expected


@pytest.mark.slow  # starts three processes, 4 s
def test_the_result_does_not_depend_on_the_processes(job, alone, kept) -> None:
    assert kept(job("quick", "again"), in_processes(3)) == alone("quick", "again")


@pytest.mark.slow  # starts two processes, and goes on in one, 4 s
def test_a_sweep_that_was_killed_goes_on_and_says_the_same(job, alone, begun, same) -> None:
    one = job("slow", chunk=2048)
    sweeping = begun(one, "processes")
    sweeping.chunks(4)
    assert sweeping.end(signal.SIGKILL) == -signal.SIGKILL
    assert sweeping.left() == []
    journal = Journal.opened(sweeping.journal, one)
    before = set(journal.done)
    assert 4 <= len(before) < len(one.chunks())
    again: list[int] = []
    sweep(journal, in_processes(1), heard=lambda done: again.append(done.number))
    assert sorted([*before, *again]) == list(range(len(one.chunks())))
    assert same(finished(*read_journal(sweeping.journal)[:2])) == alone("slow")
