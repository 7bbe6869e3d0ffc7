"""Pages that do not answer are requested less and less often; those that answer or refuse, at each look."""

from __future__ import annotations

from consumer.admin.status.pages import LONGEST_PAUSE_S, PageAnswer, WorkerPages
from consumer.leases.worker_notes import WorkerNote

URL = "http://10.0.0.7:8080"


class World:
    """A page whose answer is ``answer``, and a clock."""

    def __init__(self, answer: PageAnswer) -> None:
        self.answer = answer
        self.asked: list[float] = []
        self.now = 0.0
        self.pages = WorkerPages(self.ask, lambda: self.now)

    def ask(self, url: str) -> PageAnswer:
        assert url == URL
        self.asked.append(self.now)
        return self.answer

    def look(self, url: str = URL) -> dict[str, PageAnswer]:
        return self.pages.ask_all({"w": WorkerNote("w", url, "elsewhere", 0.0, {})})

    def watch(self, seconds: int) -> None:
        for _ in range(seconds // 2):
            self.look()
            self.now += 2


def test_a_page_that_answers_is_asked_at_each_look() -> None:
    for answer in (PageAnswer({"queue": 1}), PageAnswer(refused=True)):
        world = World(answer)
        world.watch(20)
        assert len(world.asked) == 10


def test_a_silent_page_is_asked_less_and_less_often() -> None:
    world = World(PageAnswer())
    world.watch(300)
    gaps = [after - before for before, after in zip(world.asked, world.asked[1:], strict=False)]
    assert gaps[:5] == [2, 4, 8, 16, 32]
    assert set(gaps[5:]) == {LONGEST_PAUSE_S}


def test_one_that_answers_again_is_asked_at_each_look_again() -> None:
    world = World(PageAnswer())
    world.watch(60)
    world.answer = PageAnswer({"queue": 1})
    world.watch(LONGEST_PAUSE_S.__trunc__())
    before = len(world.asked)
    world.watch(20)
    assert len(world.asked) == before + 10


def test_a_page_on_another_machines_loopback_is_not_asked() -> None:
    world = World(PageAnswer())
    for url in ("http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"):
        assert world.look(url) == {}
