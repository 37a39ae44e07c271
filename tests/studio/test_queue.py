"""The queue's decisions, with workers that do as the test says."""

import asyncio
from pathlib import Path

import pytest

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.studio import queue as module
from gs_ssd.studio import worker_process
from gs_ssd.studio.journal import Journal
from gs_ssd.studio.queue import Queue
from gs_ssd.studio.registry import Registry
from gs_ssd.studio.runs import JOURNAL, RunsFolder
from gs_ssd.studio.state import ATTEMPTS, after, recall

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


class FakeWorker:
    """A worker that works until `finish` is set, and then ends as `outcomes` say, one a worker."""

    outcomes: list[str]
    started: list["FakeWorker"]

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.finish = asyncio.Event()
        type(self).started.append(self)

    @classmethod
    async def start(cls) -> "FakeWorker":
        return cls()

    def send(self, **wish) -> None:
        self.sent.append(wish)
        if wish.get("stop"):
            self.finish.set()

    async def work(self, listener) -> tuple[str, str]:
        listener({"event": "began", "completed": 0}, b"")
        await self.finish.wait()
        stopped = any(wish.get("stop") for wish in self.sent)
        outcome = "stopped" if stopped else type(self).outcomes.pop(0)
        if outcome == "done":
            folder = Path(next(wish["job"] for wish in self.sent if "job" in wish)["folder"])
            (folder / "point_cloud.ply").write_bytes(b"ply\n")
        return outcome, "" if outcome in ("done", "stopped") else "it broke"

    async def end(self) -> None:
        """Nothing to end."""


@pytest.fixture
def workers(monkeypatch):
    FakeWorker.outcomes, FakeWorker.started = [], []
    monkeypatch.setattr(worker_process, "WorkerProcess", FakeWorker)
    return FakeWorker


def config(prompt: str = "a disc") -> configs.ExperimentConfig:
    return configs.load(SMOKE, [f"prompt={prompt}"])


def drive(folder: Path, scenario, **options) -> Queue:
    """Run a scenario against a queue that works."""

    async def run() -> Queue:
        queue = Queue(RunsFolder(folder), Journal(folder / JOURNAL), spare=False, **options)
        working = asyncio.create_task(queue.serve())
        await scenario(queue)
        await queue.close()
        working.cancel()
        return queue

    return asyncio.run(run())


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0.001)


def states(queue: Queue) -> dict[str, str]:
    found = (queue.describe(name) for name in queue.names())
    return {run["name"]: run["state"] for run in found if run is not None}


def test_so_many_run_at_once_and_the_rest_wait_in_their_order(tmp_path, workers):
    async def scenario(queue):
        workers.outcomes = ["done"] * 5
        names = [queue.submit(config(f"disc {i}")) for i in range(5)]
        await settle()
        assert [states(queue)[name] for name in names] == ["running"] * 2 + ["queued"] * 3
        assert [queue.describe(name)["position"] for name in names[2:]] == [0, 1, 2]
        workers.started[1].finish.set()
        await settle()
        assert [states(queue)[name] for name in names] == (
            ["running", "done", "running", "queued", "queued"]
        )
        for worker in workers.started:
            worker.finish.set()
        await settle()
        assert len(workers.started) == 5

    drive(tmp_path, scenario, at_once=2)


def test_a_worker_that_dies_is_replaced_so_often_and_no_more(tmp_path, workers):
    async def scenario(queue):
        workers.outcomes = ["died"] * 10
        name = queue.submit(config())
        for attempt in range(1, ATTEMPTS + 1):
            await settle()
            assert len(workers.started) == attempt
            workers.started[-1].finish.set()
        await settle()
        assert len(workers.started) == ATTEMPTS
        run = queue.describe(name)
        assert run["state"] == "failed"
        assert "it broke" in run["message"]
        queue.resume(name)  # by hand it may be tried again
        await settle()
        assert len(workers.started) == ATTEMPTS + 1

    drive(tmp_path, scenario)


def test_stop_takes_out_of_the_queue_and_ends_a_run(tmp_path, workers):
    async def scenario(queue):
        first, second = queue.submit(config("one")), queue.submit(config("two"))
        await settle()
        queue.stop(second)
        queue.stop(first)
        await settle()
        assert states(queue) == {first: "stopped", second: "stopped"}
        assert len(workers.started) == 1
        with pytest.raises(UserError, match="not running"):
            queue.stop(first)

    drive(tmp_path, scenario)


@pytest.mark.parametrize("requeue", [True, False])
def test_what_ran_at_the_end_is_interrupted_or_taken_up(tmp_path, workers, requeue):
    async def begin(queue):
        queue.submit(config("one"))
        queue.submit(config("two"))
        queue.submit(config("three"))
        await settle()

    drive(tmp_path, begin)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"time": 1, "event": "qu')  # a line that was half written when the power went

    async def again(queue):
        waiting = ["two", "three", "one"] if requeue else ["two", "three"]
        assert queue.order == waiting
        assert states(queue)["one"] == ("queued" if requeue else "interrupted")
        await settle()
        assert states(queue)["two"] == "running"

    drive(tmp_path, again, requeue=requeue)
    third = drive(tmp_path, lambda queue: settle(), requeue=False)
    assert set(states(third)) == {"one", "two", "three"}


@pytest.mark.parametrize("refuses", ["the checkpoint", "the settings", "the journal"])
def test_of_a_wish_that_the_disk_refuses_nothing_is_left(tmp_path, monkeypatch, refuses):
    registry = Registry(RunsFolder(tmp_path), Journal(tmp_path / JOURNAL))
    (tmp_path / "first" / "checkpoints").mkdir(parents=True)
    checkpoint = tmp_path / "first" / "checkpoints" / "step_000002.pt"
    checkpoint.touch()

    def full(*args, **more):
        if refuses == "the checkpoint":  # pruned since it was looked for
            raise FileNotFoundError(2, "No such file or directory", str(checkpoint))
        raise UserError("no room")

    step = {
        "the checkpoint": "gs_ssd.studio.registry.shutil.copyfile",
        "the settings": "gs_ssd.config.save",
        "the journal": "gs_ssd.studio.journal.Journal.append",
    }
    with monkeypatch.context() as patch:
        patch.setattr(step[refuses], full)
        with pytest.raises(UserError):
            registry.submit(config(), fork=("first", 2))
    assert registry.names() == ["first"]
    assert not (tmp_path / "a-disc").exists()
    assert registry.submit(config(), fork=("first", 2)) == "a-disc"


@pytest.mark.parametrize(
    "event", ["started", "queued", "done", "starred", "stopped", "thrown away"]
)
def test_a_journal_without_room_leaves_no_run_stuck(tmp_path, workers, monkeypatch, event):
    """What cannot be remembered is said, and can be asked for again once there is room."""
    real, told = Journal.append, []

    def append(self, asked, run, **more):
        if full and asked == event:
            raise UserError("the journal is full")
        real(self, asked, run, **more)

    async def scenario(queue):
        nonlocal full
        workers.outcomes = ["done" if event == "done" else "died"] * 3
        queue.listen(lambda name: told.append((name, queue.describe(name))))
        first, second = queue.submit(config("one")), queue.submit(config("two"))
        full = True
        asked = {
            "starred": lambda: queue.star(second, on=True),
            "stopped": lambda: queue.stop(second),
            "thrown away": lambda: queue.discard(second),
        }
        if event in asked:
            with pytest.raises(UserError, match="is full"):
                asked[event]()
            assert not queue.describe(second)["starred"]
            assert states(queue)[second] == "queued"
            return
        await settle()
        for worker in list(workers.started):
            worker.finish.set()
        await settle()
        run = queue.describe(first)
        assert run["state"] == ("done" if event == "done" else "failed")
        assert "is full" in run["message"] or event == "done"
        assert [told for name, told in told if name == first][-1]["state"] == run["state"]
        full = False
        if event != "done":
            queue.resume(first)
            assert queue.describe(first)["state"] == "queued"

    full = False
    monkeypatch.setattr(Journal, "append", append)
    drive(tmp_path, scenario)


def test_without_workers_all_that_was_asked_is_remembered(tmp_path):
    """No event loop either."""
    first = Registry(RunsFolder(tmp_path), Journal(tmp_path / JOURNAL))
    for name in ("one", "two", "three", "four"):
        first.submit(config(), name=name, anyway=name == "two")
    first.star("three", on=True)
    trashed = first.discard("one")
    before = [first.describe(name) for name in first.names()]
    second = Registry(RunsFolder(tmp_path), Journal(tmp_path / JOURNAL))
    assert second.order == ["two", "three", "four"]
    assert [second.describe(name) for name in second.names()] == before
    assert second.live["two"].anyway
    assert second.restore(trashed) == "one"
    assert second.describe("one")["state"] == "stopped"


def test_a_run_whose_worker_ended_goes_on_or_is_over():
    assert after("died", "x", ATTEMPTS - 1, closing=False)[0] == "queued"
    assert after("died", "x", ATTEMPTS, closing=False) == ("failed", f"x, {ATTEMPTS} times")
    for outcome in ("died", "stopped"):  # the server ends it: not its own end
        assert after(outcome, "x", 1, closing=True) == ("interrupted", "x")
    for outcome in ("done", "failed"):
        for closing in (False, True):
            assert after(outcome, "x", 1, closing=closing) == (outcome, "x")
    assert after("stopped", "", 1, closing=False) == ("stopped", "")


def test_names_are_free_ones_and_stay_inside(tmp_path, workers):
    async def scenario(queue):
        (tmp_path / "a-disc").mkdir()
        assert queue.submit(config()) == "a-disc-2"
        for name in ("..", "a/b", "", "A", "a-disc", ".gs-ssd-studio"):
            with pytest.raises(UserError):
                queue.submit(config(), name=name)
        assert queue.submit(config(), name="mine") == "mine"

    drive(tmp_path, scenario)


def test_frames_are_asked_for_only_while_somebody_looks(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(module, "WATCHED_S", 0.05)

    async def scenario(queue):
        name = queue.submit(config())
        await settle()
        worker = workers.started[0]
        assert {"watch": True} not in [{"watch": w.get("watch")} for w in worker.sent]
        queue.watching(name)
        queue.watching(name)
        assert worker.sent.count({"watch": True}) == 1
        await asyncio.sleep(0.1)
        queue.receive(name, {"event": "step", "completed": 1, "seconds": 1, "counts": {}}, b"")
        assert worker.sent[-1] == {"watch": False}

    drive(tmp_path, scenario)


def test_who_waits_for_a_snapshot_is_answered_by_the_worker_or_by_the_end_of_the_run(
    tmp_path, workers
):
    async def scenario(queue):
        name = queue.submit(config())
        await settle()
        asked = [asyncio.create_task(queue.snapshot(name)) for _ in range(2)]
        await settle()
        queue.receive(name, {"event": "snapshot", "completed": 1, "fault": "too foggy"}, b"")
        for answer in asked:
            with pytest.raises(UserError, match="too foggy"):
                await answer
        assert states(queue) == {name: "running"}
        asked = [asyncio.create_task(queue.snapshot(name)) for _ in range(2)]
        await settle()
        workers.outcomes.append("done")
        workers.started[0].finish.set()
        assert await asyncio.wait_for(asyncio.gather(*asked), 5) == [None, None]

    drive(tmp_path, scenario)


@pytest.mark.parametrize(
    "line",
    [
        *({"event": "started", "attempt": attempt} for attempt in ("x", None, [1], float("inf"))),
        *({"event": event} for event in (None, 3, ["queued"], {})),
        *({"event": "queued", "source": source} for source in (3, ["a"], "half")),
        {"event": "failed", "message": ["\udcff"]},
    ],
)
def test_a_journal_of_wrong_types_is_read(line):
    live, waiting = recall([{"run": "a", "event": "starred"}, {"run": "a", **line}])
    assert live["a"].starred
    assert isinstance(live["a"].attempts, int)
    assert live["a"].source is None
    assert waiting in ([], ["a"])
